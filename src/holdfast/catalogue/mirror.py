"""A name's whole log in another store: the same entries, byte for byte."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from holdfast.catalogue.base import Log
from holdfast.catalogue.history import whole
from holdfast.errors import Conflict
from holdfast.record import LogEntry

__all__ = ["append_all", "beyond"]


def beyond(name: str, source: Log, to: Log) -> list[bytes]:
    """Return the entries that the other log lacks.

    Raises:
        Conflict: It has other entries than ours, so neither continues the other.
        Corrupt: An entry is missing before others that are there.
    """
    ours, theirs = list(whole(source, name)), list(whole(to, name))
    for seq, (mine, other) in enumerate(zip_longest(ours, theirs), 1):
        if other is None:
            return ours[seq - 1 :]
        if mine is not None and mine != other:
            raise _parted(name, to, seq)
    return []


def append_all(name: str, entries: Sequence[bytes], first: int, to: Log) -> None:
    """Append entries from a number on.

    Raises:
        Conflict: Somebody else has appended meanwhile; what was appended before stays and is a
            part of the same history.
    """
    for seq, data in enumerate(entries, first):
        after = LogEntry.decode(data).prev
        if not to.append(name, seq, data, after) and to.read(name, seq) != data:
            raise _parted(name, to, seq)


def _parted(name: str, to: Log, seq: int) -> Conflict:
    return Conflict(
        f"The history of {name} in {to.url} is another one from entry {seq} on, so it cannot be "
        "continued. The versions can be sent without it, under new numbers.",
        hint=f"hold log {name}",
        ref=name,
    )
