"""The links of a group, in each of the three ways in which groups keep them.

Specification, sections III.A.1 and III.B (symbol tables), IV.A.2.c and g (link messages), and
III.G (fractal heaps) for groups of many links.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from holdfast.errors import Corrupt
from holdfast.trust.hdf5.blocks import Blocks, Cursor
from holdfast.trust.hdf5.headers import (
    ATTRIBUTE,
    ATTRIBUTE_INFO,
    LINK,
    LINK_INFO,
    SYMBOL_TABLE,
    Message,
)
from holdfast.trust.hdf5.heaps import FractalHeap, local_names, records

__all__ = ["Link", "attributes_of", "links_of"]

_MOST_NODES: Final = 100_000
_HARD, _SOFT, _EXTERNAL = 0, 1, 64


@dataclass(frozen=True, slots=True)
class Link:
    """A link of a group.

    Attributes:
        name: Its name in the group.
        kind: ``hard``, ``soft``, ``external`` or ``user-defined``.
        address: Of the object's header, for hard links.
        target: What the others lead to.
    """

    name: str
    kind: str
    address: int = 0
    target: str = ""


def links_of(blocks: Blocks, found: Sequence[Message]) -> Iterator[Link]:
    """Yield the links of the group whose messages these are; raises ``Corrupt`` on the way."""
    for message in found:
        if message.kind == SYMBOL_TABLE:
            yield from _symbols(blocks, Cursor(message.data, blocks, "a symbol table"))
        elif message.kind == LINK:
            yield _link(blocks, message.data)
        elif message.kind == LINK_INFO:
            for data in _dense(blocks, message.data, 8, ((5, 4), (6, 8))):
                yield _link(blocks, data)


def attributes_of(blocks: Blocks, found: Sequence[Message]) -> Iterator[bytes]:
    """Yield the attributes' messages of an object, few or many; raises ``Corrupt`` on the way."""
    for message in found:
        if message.kind == ATTRIBUTE and not message.shared:
            yield message.data
        elif message.kind == ATTRIBUTE_INFO:
            yield from _dense(blocks, message.data, 2, ((8, 0), (9, 0)))


def _dense(
    blocks: Blocks, data: bytes, counter: int, kinds: tuple[tuple[int, int], ...]
) -> Iterator[bytes]:
    """Yield the messages that a fractal heap keeps, by the tree of their names.

    Args:
        blocks: The file.
        data: The message that says where heap and tree are.
        counter: Bytes of the counter that the message may have.
        kinds: Kinds of trees to where in their records the ids are.
    """
    cursor = Cursor(data, blocks, "a group's description")
    cursor.take(1)
    cursor.take(counter if cursor.number(1) & 1 else 0)
    heap, tree = cursor.address(), cursor.address()
    if heap is None or tree is None:
        return
    store = FractalHeap(blocks, heap)
    start = dict(kinds)
    kind = blocks.read(tree, 6, "a tree")[5]
    for record in records(blocks, tree, tuple(start)):
        # Ids have the heap's own length: 7 bytes of links, 8 of attributes.
        yield store.get(record[start[kind] : start[kind] + (7 if counter == 8 else 8)])


def _link(blocks: Blocks, data: bytes) -> Link:
    cursor = Cursor(data, blocks, "a link")
    version, flags = cursor.number(1), cursor.number(1)
    if version != 1:
        raise Corrupt(f"a link has the version {version}")
    kind = cursor.number(1) if flags & 8 else _HARD
    cursor.take(8 if flags & 4 else 0)
    cursor.take(1 if flags & 16 else 0)
    name = cursor.take(cursor.number(1 << (flags & 3))).decode("utf-8", "replace")
    if kind == _HARD:
        return Link(name, "hard", cursor.needed("object"))
    target = cursor.take(cursor.number(2))
    if kind == _SOFT:
        return Link(name, "soft", target=target.decode("utf-8", "replace"))
    if kind == _EXTERNAL:
        file, _, inside = target[1:].decode("utf-8", "replace").rstrip("\0").partition("\0")
        return Link(name, "external", target=f"{file}:{inside}")
    return Link(name, "user-defined", target=f"kind {kind}")


def _symbols(blocks: Blocks, table: Cursor) -> Iterator[Link]:
    """Yield the links of a group of the first kind: a tree of nodes of entries, and a heap."""
    tree, heap = table.needed("tree"), table.needed("heap")
    names = local_names(blocks, heap)
    todo, seen = [tree], {tree}
    while todo:
        place = todo.pop()
        if len(seen) > _MOST_NODES:
            raise Corrupt("a group has more nodes than are read here")
        if blocks.read(place, 4, "a group's node") == b"SNOD":
            yield from _entries(blocks, place, names)
            continue
        for child in reversed(_children(blocks, place)):
            if child not in seen:
                seen.add(child)
                todo.append(child)


def _children(blocks: Blocks, place: int) -> list[int]:
    head = 8 + 2 * blocks.width
    cursor = blocks.signed(place, head, b"TREE", "tree of a group")
    kind, _, count = cursor.number(1), cursor.number(1), cursor.number(2)
    if kind:
        raise Corrupt(f"the tree at byte {place} is not that of a group")
    cursor = blocks.cursor(place + head, count * (blocks.length + blocks.width), "a group's tree")
    found = []
    for _ in range(count):
        cursor.length()
        found.append(cursor.needed("child"))
    return found


def _entries(blocks: Blocks, place: int, names: bytes) -> Iterator[Link]:
    count = blocks.signed(place, 8, b"SNOD", "node of a group")
    count.take(2)
    number = count.number(2)
    width = 2 * blocks.width + 24
    cursor = blocks.cursor(place + 8, number * width, "a group's node")
    for _ in range(number):
        name = _name(names, cursor.number(blocks.width))
        address = cursor.number(blocks.width)
        how = cursor.number(4)
        cursor.take(4)
        scratch = cursor.take(16)
        if how == 2:
            target = _name(names, int.from_bytes(scratch[:4], "little"))
            yield Link(name, "soft", target=target)
        else:
            yield Link(name, "hard", address)


def _name(names: bytes, place: int) -> str:
    if place >= len(names):
        raise Corrupt("a group's name is not in its heap")
    return names[place:].partition(b"\0")[0].decode("utf-8", "replace")
