"""Stored state held against a target by name: what fits, what does not, and which prefix would."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from holdfast.errors import PartialLoad, UsageError

__all__ = ["Comparison", "Matching", "some"]

_SHOWN: Final = 5


class Comparison(NamedTuple):
    """How stored state and the target's agree, by name."""

    matched: list[str]
    missing: list[str]
    unexpected: list[str]
    different: dict[str, str]

    @property
    def complete(self) -> bool:
        """True when everything on both sides is accounted for."""
        return not (self.missing or self.unexpected or self.different)


class Matching(NamedTuple):
    """How a framework's targets are filled.

    Attributes:
        things: What has a name, in the plural: ``"tensors"``.
        target: What is filled, as in ``into=model``.
        apart: Says how a stored thing does not fit the target's, or None.
    """

    things: str
    target: str
    apart: Callable[[Any, Any], str | None]

    def renaming(self, names: Iterable[str], rename: str) -> Callable[[str], str]:
        """Return what changes the prefix of a stored name.

        Args:
            names: The stored names.
            rename: ``"old->new"``, either side may be empty.

        Raises:
            UsageError: Not of that form, it fits no name, or two names become one.
        """
        plain = f'holdfast.load("REF", into={self.target})'
        old, arrow, new = rename.partition("->")
        if not arrow:
            raise UsageError(
                f"rename={rename!r} is not of the form 'old->new'.",
                hint=f'holdfast.load("REF", into={self.target}, rename="module.->")',
            )
        stored = list(names)
        if stored and not any(name.startswith(old) for name in stored):
            raise UsageError(
                f"rename={rename!r}: no stored name starts with {old!r}; they are {some(stored)}.",
                hint=plain,
            )
        change = _change(old, new)
        if len({change(name) for name in stored}) < len(stored):
            raise UsageError(
                f"rename={rename!r} gives two stored {self.things} the same name.", hint=plain
            )
        return change

    def compare(
        self, target: Mapping[str, Any], stored: Mapping[str, Any], optional: Iterable[str] = ()
    ) -> Comparison:
        """Compare names and what they name; changes nothing.

        Args:
            target: The target's things by name.
            stored: The stored ones.
            optional: Names of the target that need not be stored.
        """
        different = {
            name: reason
            for name, thing in stored.items()
            if name in target and (reason := self.apart(target[name], thing)) is not None
        }
        needed = target.keys() - set(optional)
        return Comparison(
            matched=[name for name in stored if name in target and name not in different],
            missing=[name for name in target if name in needed and name not in stored],
            unexpected=[name for name in stored if name not in target],
            different=different,
        )

    def require(
        self, target: Mapping[str, Any], stored: Mapping[str, Any], optional: Iterable[str] = ()
    ) -> None:
        """Require that stored and target match one to one; see ``compare``.

        Raises:
            PartialLoad: They do not: says which and, where a change of prefix would cure it, that.
        """
        found = self.compare(target, stored, optional)
        if found.complete:
            return
        head = f"{len(found.matched)} of {len(target)} {self.things} matched."
        for old, new in _prefix_changes(target, stored):
            change = _change(old, new)
            renamed = {change(name): thing for name, thing in stored.items()}
            if self.compare(target, renamed, optional).complete:
                said = [f"all stored names start with {old!r}"] if old else []
                said += [f"all the target's names start with {new!r}"] if new else []
                text = " and ".join(said)
                raise PartialLoad(
                    f"{head} {text[0].upper()}{text[1:]}; nothing was changed.",
                    hint=f'holdfast.load("REF", into={self.target}, rename="{old}->{new}")',
                )
        raise PartialLoad(f"{head} {_told(found)}", hint='holdfast.inspect("REF")')


def some(names: Iterable[str]) -> str:
    """List the first few names, and how many there are besides."""
    every = list(names)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more


def _told(found: Comparison) -> str:
    parts = ["Nothing was changed."]
    if found.missing:
        parts.append(f"Not stored: {some(found.missing)}.")
    if found.unexpected:
        parts.append(f"Stored but not in the target: {some(found.unexpected)}.")
    if found.different:
        lines = [f"{name} ({reason})" for name, reason in found.different.items()]
        parts.append(f"Different: {some(lines)}.")
    return " ".join(parts)


def _change(old: str, new: str) -> Callable[[str], str]:
    return lambda name: new + name.removeprefix(old) if name.startswith(old) else name


def _prefix_changes(target: Iterable[str], stored: Iterable[str]) -> Iterator[tuple[str, str]]:
    for old in ["", *_prefixes(stored)]:
        for new in ["", *_prefixes(target)]:
            if old != new:
                yield old, new


def _prefixes(names: Iterable[str]) -> list[str]:
    """Return the dotted prefixes that all names share, shortest first."""
    every = list(names)
    if not every:
        return []
    first, last = min(every), max(every)
    same = 0
    while same < min(len(first), len(last)) and first[same] == last[same]:
        same += 1
    return [first[: place + 1] for place in range(same) if first[place] == "."]
