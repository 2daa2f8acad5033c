"""Catalogues that are only read: versions that a list names, or logs that are at hand."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from holdfast.catalogue.catalogue import Catalogue
from holdfast.catalogue.history import AliasState, History, VersionInfo
from holdfast.errors import UsageError

__all__ = ["HeldLog", "Listed"]

_STAMP: Final = (0,)


def _only_read(url: str) -> UsageError:
    return UsageError(
        f"{url} is only read, so nothing can happen to its models.", hint=f"hold unbundle {url}"
    )


class HeldLog:
    """A log whose entries are at hand and to which nothing is added.

    Args:
        url: Where they came from.
        entries: The bytes of the entries, in order, by name.
    """

    def __init__(self, url: str, entries: Mapping[str, Sequence[bytes]]) -> None:
        self.url = url
        self._entries = dict(sorted(entries.items()))

    def names(self) -> list[str]:
        """Return all names that have an entry, sorted."""
        return list(self._entries)

    def newest(self, name: str) -> int:
        """Return the number of the last entry of this name, 0 when there is none."""
        return len(self._entries.get(name, ()))

    def read(self, name: str, seq: int) -> bytes | None:
        """Return an entry's bytes, or None when it does not exist."""
        return self._entries[name][seq - 1] if 0 < seq <= self.newest(name) else None

    def read_from(self, name: str, seq: int) -> Iterator[bytes]:
        """Yield the entries from a number on."""
        yield from self._entries.get(name, ())[seq - 1 :]

    def append(self, name: str, seq: int, data: bytes, after: str | None = None) -> bool:
        """Refuse; raises ``UsageError``."""
        del name, seq, data, after
        raise _only_read(self.url)

    def stamp(self, name: str, seq: int) -> tuple[int, ...] | None:
        """Return numbers that never change, None when there is no such entry."""
        return _STAMP if 0 < seq <= self.newest(name) else None


class Listed(Catalogue):
    """The versions that a list names: their numbers may have gaps, and they have no history.

    Args:
        url: Where the list came from.
        infos: The versions, each number of a name once and each alias of a name once.
    """

    def __init__(self, url: str, infos: Iterable[VersionInfo]) -> None:
        self._infos = sorted(infos, key=lambda info: (info.name, info.number))
        names = {info.name: [b""] for info in self._infos}
        super().__init__(HeldLog(url, names), None)
        for name in names:
            self._index.fill(_state([info for info in self._infos if info.name == name]))

    def history(self, name: str, at: str | dt.datetime | None = None) -> History:
        """Refuse; raises ``NotFound`` for a name that is not there, else ``UsageError``."""
        del at
        self._require(name)
        raise UsageError(
            f"{self._log.url} holds versions of {name} without their history.",
            hint=f"hold ls {self._log.url}",
            ref=name,
        )

    def check_chain(self, name: str) -> None:
        """Do nothing for a name that is there: there is no chain; raises ``NotFound``."""
        self._require(name)

    def live(self) -> Iterator[VersionInfo]:
        """Yield every version."""
        yield from self._infos


def _state(infos: Sequence[VersionInfo]) -> History:
    """Return what the fold of a log that said the same would be."""
    aliases = {
        alias: AliasState(alias, info.number, info.at, info.by, None, None)
        for info in infos
        for alias in info.aliases
    }
    return History(
        infos[0].name,
        versions={info.number: info for info in infos},
        aliases=dict(sorted(aliases.items())),
        seq=1,
        last_at=max(info.at for info in infos),
        count=infos[-1].number,
    )
