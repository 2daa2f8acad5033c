"""The nodes of TensorFlow graphs and functions: what they call, and which files they open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from holdfast.trust.protobuf import Field, Table
from holdfast.trust.tf_messages import Oddities, in_attributes
from holdfast.trust.tf_operators import PATHS
from holdfast.trust.zips import escapes

__all__ = ["Body", "chosen_paths", "reached"]

_MOST_LISTED: Final = 200
_MOST_TRACED: Final = 1_000


class Body:
    """The nodes of a graph or of a function.

    Attributes:
        name: Of the function; empty for the graph itself.
        nodes: As they are in the file.
        operators: How often each is used.
        places: Byte of the first node of each operator.
        placeholders: Names of the nodes that stand for inputs.
        opens: Nodes that open a file whose path they are handed.
        calls: Functions that are called, to the nodes that call them.
    """

    def __init__(self, name: str, nodes: list[Field], given: Collection[str] = ()) -> None:
        """Take nodes; ``given`` are constants that a reader replaces by places of assets."""
        self.name = name
        self.nodes = nodes
        self.operators: Counter[str] = Counter()
        self.places: dict[str, int] = {}
        self.placeholders: list[str] = []
        self.opens: list[Table] = []
        self.calls: dict[str, list[Table]] = {}
        self._given = given
        self._by_name: dict[str, Table] = {}

    def read(self, functions: Collection[str], odd: Oddities) -> None:
        """Look into every node; raises ``Corrupt``.

        Args:
            functions: Names of the graph's functions, which are operators too.
            odd: Takes what is odd.
        """
        for node in self.nodes:
            table = odd.table("NodeDef", node)
            operator = table.text(2)
            self.operators[operator[:200]] += 1
            self.places.setdefault(operator[:200], node.position)
            if operator in PATHS:
                self.opens.append(table)
            elif operator == "Placeholder":
                self.placeholders.append(table.text(1)[:200])
            if operator in functions:
                self.calls.setdefault(operator, []).append(table)
            for called in in_attributes(table.all(5), odd):
                self.calls.setdefault(called, []).append(table)

    def paths(self, opening: Collection[str]) -> Iterator[tuple[str, str]]:
        """Yield (operator, path) where the path of a file is one that the graph chose.

        It should be handed over. One that is put together of the graph's own texts alone, or of
        one that starts at the root or climbs, is the graph's choice.
        """
        calling = [node for name in self.calls if name in opening for node in self.calls[name]]
        for node in self.opens[:_MOST_LISTED]:
            place = PATHS[node.text(2)]
            texts, handed = self._sources([part.text() for part in node.all(3)][place : place + 1])
            chosen = _chosen(texts) or (texts[0] if texts and not handed else None)
            if chosen is not None:
                yield node.text(2), chosen
        for node in calling[:_MOST_LISTED]:
            chosen = _chosen(self._sources([part.text() for part in node.all(3)])[0])
            if chosen is not None:
                yield node.text(2), chosen

    def _sources(self, todo: list[str]) -> tuple[list[str], bool]:
        """Return the texts that inputs are made of, and whether something was handed over."""
        if not self._by_name:
            self._by_name = {table.text(1): table for table in (n.table() for n in self.nodes)}
        seen: set[str] = set()
        texts: list[str] = []
        handed = False
        while todo and len(seen) < _MOST_TRACED:
            name = todo.pop().lstrip("^").partition(":")[0]
            if name in seen:
                continue
            seen.add(name)
            source = self._by_name.get(name)
            if source is None or name in self._given or source.text(2) in ("Placeholder", "_Arg"):
                handed = True
            elif source.text(2) == "Const":
                texts += _strings(source)
            else:
                todo += [part.text() for part in source.all(3)]
        return texts, handed


def chosen_paths(bodies: Sequence[Body]) -> Iterator[tuple[str, str]]:
    """Yield (operator, path) of the files that a graph itself names, in its functions too."""
    callers: dict[str, list[str]] = {}
    for body in bodies:
        for called in body.calls:
            callers.setdefault(called, []).append(body.name)
    opening = _closure(callers, (body.name for body in bodies if body.opens))
    for body in bodies:
        yield from body.paths(opening)


def reached(bodies: Sequence[Body], offered: Iterable[str]) -> Iterator[Body]:
    """Yield the functions that are offered, and all that those call."""
    calls: dict[str, list[str]] = {}
    for body in bodies:
        calls.setdefault(body.name, []).extend(body.calls)
    names = _closure(calls, offered)
    return (body for body in bodies if body.name and body.name in names)


def _closure(edges: Mapping[str, Iterable[str]], start: Iterable[str]) -> set[str]:
    todo, found = list(start), set[str]()
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += edges.get(name, ())
    return found


def _chosen(texts: Iterable[str]) -> str | None:
    """Return the first text that as a path leads to a place of its own."""
    return next((text for text in texts if len(text) > 1 and _leads(text)), None)


def _leads(text: str) -> bool:
    return text.isprintable() and (escapes(text) or "://" in text)


def _strings(node: Table) -> Iterator[str]:
    """Yield the texts of a constant: attribute ``value``, a TensorProto of strings."""
    for part in node.all(5):
        entry = part.table()
        if entry.text(1) != "value":
            continue
        for value in entry.all(2):
            for tensor in value.table().all(8):
                for text in tensor.table().all(8)[:_MOST_LISTED]:
                    yield bytes(text.view()[:1000]).decode("utf-8", "replace")
