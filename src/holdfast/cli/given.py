"""The store that a command line names, repeated in the commands that are offered next.

A hint is worded where an error happens, which knows versions and not command lines. What the user
has typed stands beside it only here, so that all that is printed goes through ``complete``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Final

from holdfast.api.refs import in_bundle

__all__ = ["complete", "forget", "note", "note_arguments"]

_given: ContextVar[str | None] = ContextVar("store that the command line names", default=None)

# A command up to its end or its comment; one in quotes is prose.
_COMMAND: Final = re.compile(
    r"(?P<already>HOLDFAST_STORE=\S+ +)?(?<!['\w/.-])"
    r"hold (?P<verb>env [a-z]+|[a-z]+)(?P<rest>[^\n;#]*)"
)
# Verbs that need no store, or are given one as their argument.
_WITHOUT: Final = ("completion", "config", "init", "scan", "where", "env ls", "env prune")
# Arguments that are references, or may be a bundle.
_REFERENCES: Final = {"ref", "refs", "before", "after"}
_MAY_BE: Final = "name"  # of ``ls`` and ``log``; of ``save`` it is a name


def forget() -> None:
    """Begin a command line that names no store so far."""
    _given.set(None)


def note(place: str | None) -> None:
    """Remember the store that a command line names; None names none."""
    if place is not None:
        _given.set(place)


def note_arguments(arguments: Mapping[str, object]) -> None:
    """Remember the bundle that the arguments of a command refer into, if they do."""
    note(next(_bundles(arguments), None))


def _bundles(arguments: Mapping[str, object]) -> Iterator[str]:
    for name, value in arguments.items():
        if name in _REFERENCES or name == _MAY_BE:
            for each in value if isinstance(value, tuple) else (value,):
                found = in_bundle(each)
                if found is not None and Path(found[0]).is_file():
                    yield found[0]


def complete(text: str) -> str:
    """Name the store in the commands of a text that would work in another one without it."""
    place = _given.get()
    if place is None:
        return text

    def named(found: re.Match[str]) -> str:
        verb, rest = found["verb"], found["rest"]
        if found["already"] or verb in _WITHOUT or _names(rest, place):
            return found[0]
        return f"hold {verb} --store {shlex.quote(place)}{rest}"

    return _COMMAND.sub(named, text)


def _names(rest: str, place: str) -> bool:
    """Say whether the arguments of a command name a store, or are about the one at a place."""
    try:
        words = shlex.split(rest)
    except ValueError:  # a quotation mark of prose
        words = rest.split()
    paths = [path for word in words for path in (word, word.rpartition(":")[0]) if path]
    return "--store" in words or any(_is_at(path, Path(place)) for path in paths)


def _is_at(path: str, place: Path) -> bool:
    """Say whether a word is the place, not only a name that is like it."""
    named = "/" in path and "://" not in path and Path(path).name == place.name
    return named or Path(path).resolve() == place.resolve()
