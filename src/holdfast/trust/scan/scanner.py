"""One scan: what it knows, what it may spend, and how it goes from a source to a report."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Final

from holdfast.errors import Corrupt
from holdfast.trust.hdf5 import find_superblock
from holdfast.trust.report import Report
from holdfast.trust.scan.draft import Draft
from holdfast.trust.scan.identify import PICKLES, begins_as_pickle, identify
from holdfast.trust.source import Allowance, Source
from holdfast.trust.zips import has_directory

__all__ = ["DEEPEST", "FAULT", "Look", "Scanner"]

# Archives inside archives are followed so far.
DEEPEST: Final = 5
# What a report says where a reader of Holdfast fails on a file in a way that it should not.
FAULT: Final = "reading it failed, which is a fault of Holdfast"


class Scanner:
    """What one scan knows and may spend.

    Attributes:
        known: Names in pickles that are data beside the vocabulary, ``module:qualname``.
        allowance: What may be spent.
    """

    def __init__(self, known: Container[str], looks: Mapping[str, Look]) -> None:
        self.known = known
        self.allowance = Allowance()
        self._looks = looks

    def look(self, source: Source, path: str, depth: int = 0) -> Report:
        """Report on what is in a source, under every form in which it can be read."""
        kind = identify(source)
        return self.concluded(self.look_as(kind, source, path, depth), kind, source, depth)

    def concluded(self, draft: Draft, kind: str, source: Source, depth: int = 0) -> Report:
        """Return the report on a source that was read as a kind, with what it also is to others."""
        for other in _other_kinds(source, kind):
            also = self.look_as(other, source, f"(the same bytes as {other})", depth).report()
            draft.broken(f"its bytes are also a {other}: readers disagree on what it is")
            draft.members.append(also)
            draft.takes = None
        return draft.report()

    def look_as(self, kind: str, source: Source, path: str, depth: int) -> Draft:
        """Look at a source as a file of one kind."""
        draft = Draft(path, kind, source.size, self.allowance)
        look = self._looks.get(kind)
        if look is None:
            return draft
        try:
            look(self, source, draft, depth)
        except Corrupt as error:
            draft.broken(error.message)
            draft.takes = None
        except (RecursionError, MemoryError):
            draft.broken("it is nested more deeply, or larger, than is read here")
            draft.takes = None
        except Exception as error:  # noqa: BLE001 - one file must not end the scan of a folder
            draft.broken(f"{FAULT}: {type(error).__name__}: {error!s:.100}")
            draft.takes = None
        if source.fault is not None:
            draft.broken(source.fault)
            draft.takes = None
        return draft

    def may_look(self, depth: int) -> bool:
        """Say whether one more member may be looked into; asking counts."""
        self.allowance.members -= 1
        return depth < DEEPEST and self.allowance.members >= 0


Look = Callable[[Scanner, Source, Draft, int], None]


def _other_kinds(source: Source, kind: str) -> list[str]:
    """Return what the same bytes also are to other readers.

    A tar's first member starts at byte 512, where HDF5 may too; it is looked into as a member.
    """
    found = []
    if source.jumps and kind != "zip" and has_directory(source, to_the_end=kind not in PICKLES):
        found.append("zip")
    if source.jumps and kind not in ("hdf5", "tar") and find_superblock(source) is not None:
        found.append("hdf5")
    if kind not in PICKLES and begins_as_pickle(source):
        found.append("pickle")
    return found
