"""What a log must offer: numbered create-only entries per name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

__all__ = ["Gathering", "Log"]


class Log(Protocol):
    """Entries by (name, seq), created once, never changed or removed.

    The bytes are ``record.LogEntry`` documents; the log itself does not look inside.
    """

    url: str

    def names(self) -> list[str]:
        """Return all names that have an entry, sorted."""

    def newest(self, name: str) -> int:
        """Return the highest number of an entry of this name, gaps before it or not; 0 if none."""

    def read(self, name: str, seq: int) -> bytes | None:
        """Return an entry's bytes, or None when it does not exist."""

    def read_from(self, name: str, seq: int) -> Iterator[bytes]:
        """Yield the entries ``seq``, ``seq + 1``, … until one does not exist."""

    def append(self, name: str, seq: int, data: bytes, after: str | None = None) -> bool:
        """Create the entry durably; False when somebody else has created it.

        Args:
            name: Whose log.
            seq: The number of the entry.
            data: Its bytes, which differ from everybody else's.
            after: Digest of the entry before, as the writer knows it. Where a late writer may have
                replaced that one meanwhile it is compared, and False returned when it is another.

        Raises:
            NoSpace: The log's medium is full; nothing became visible.
        """

    def stamp(self, name: str, seq: int) -> tuple[int, ...] | None:
        """Return numbers that change when the entry is replaced, None when it does not exist."""


@runtime_checkable
class Gathering(Protocol):
    """What a log offers besides when each of its answers takes a while."""

    def gather(self, wanted: Sequence[tuple[str, int]]) -> None:
        """Fetch the entries of several names from a place on, all at once, after ``names``."""
