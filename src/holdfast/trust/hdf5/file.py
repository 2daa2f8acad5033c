"""A whole HDF5 file: its groups, datasets, attributes and what reaches out of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

from holdfast.errors import Corrupt
from holdfast.trust.hdf5.blocks import Blocks, Cursor
from holdfast.trust.hdf5.groups import Link, attributes_of, links_of
from holdfast.trust.hdf5.headers import (
    DATASPACE,
    DATATYPE,
    EXTERNAL,
    FILTERS,
    LAYOUT,
    Message,
    messages,
)
from holdfast.trust.hdf5.values import (
    Layout,
    attribute,
    external_files,
    filters,
    layout,
    shape_of,
    type_of,
)
from holdfast.trust.source import Source

__all__ = ["Hdf5Dataset", "Hdf5File", "Hdf5Link", "find_superblock", "read_hdf5"]

SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"
_MOST_OBJECTS: Final = 200_000
_MOST_FAULTS: Final = 100
_MOST_ATTRIBUTES: Final = 50_000
_DEEPEST: Final = 200
# Chunks of a dataset may be squeezed, but not to less than a thousandth.
_RATIO: Final = 1_100
_SMALL: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Hdf5Dataset:
    """A dataset as the file describes it.

    Attributes:
        path: Its path in the file.
        dtype: In numpy's spelling where there is one.
        shape: Dimensions.
        layout: ``compact``, ``contiguous``, ``chunked`` or ``virtual``.
        start: Byte of the elements of a contiguous one, or None.
        size: Bytes of all its elements.
        filters: Through which its chunks were put.
        external: Files beside this one that hold its elements.
        header: Address of its object header, by which ``Hdf5File.blocks`` finds it.
    """

    path: str
    dtype: str
    shape: tuple[int, ...]
    layout: str
    start: int | None
    size: int
    filters: tuple[str, ...] = ()
    external: tuple[str, ...] = ()
    header: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hdf5Link:
    """A link that is not to an object of its own file.

    Attributes:
        path: Its path.
        kind: ``soft``, ``external`` or ``user-defined``.
        target: What it leads to.
    """

    path: str
    kind: str
    target: str


@dataclass(slots=True)
class Hdf5File:
    """What was read, as far as it could be.

    Attributes:
        version: Of the superblock.
        start: Byte where the file begins inside its bytes: after a user block.
        groups: Paths of groups.
        datasets: In the order of a walk through the groups.
        links: Soft, external and user-defined ones.
        shared: Paths under which an object is found that has another path already.
        attributes: Path of an object to its attributes.
        attribute_count: How many attributes there are.
        faults: What is damaged or a lie, with the byte.
        blocks: Reads blocks by their addresses; None without a sound superblock.
    """

    version: int = 0
    start: int = 0
    groups: list[str] = field(default_factory=list)
    datasets: list[Hdf5Dataset] = field(default_factory=list)
    links: list[Hdf5Link] = field(default_factory=list)
    shared: list[str] = field(default_factory=list)
    attributes: dict[str, dict[str, Any]] = field(default_factory=dict)
    attribute_count: int = 0
    faults: list[tuple[str, int | None]] = field(default_factory=list)
    blocks: Blocks | None = None

    def fault(self, what: str, place: int | None = None) -> None:
        """Note what is damaged."""
        if len(self.faults) < _MOST_FAULTS:
            self.faults.append((what, place))


def find_superblock(source: Source) -> int | None:
    """Return where a superblock is: at 0, or after a user block of 512, 1024, 2048 … bytes."""
    at = 0
    while at + len(SIGNATURE) <= source.size:
        if source.read(at, len(SIGNATURE)) == SIGNATURE:
            return at
        at = at * 2 or 512
    return None


def read_hdf5(source: Source) -> Hdf5File:
    """Read a file's structure; damage ends the part that it is in and is told in ``faults``."""
    file = Hdf5File()
    place = find_superblock(source)
    if place is None:
        file.fault("it has no superblock")
        return file
    file.start = place
    try:
        blocks, root = _superblock(source, place, file)
    except Corrupt as error:
        file.fault(error.message, place)
        return file
    file.blocks = blocks
    _walk(blocks, root, file)
    return file


def _superblock(source: Source, place: int, file: Hdf5File) -> tuple[Blocks, int]:
    """Read the superblock: how wide addresses are, and where the root is."""
    head = Blocks(source).cursor(place, 16, "the superblock")
    head.take(8)
    file.version = head.number(1)
    if file.version > 3:
        raise Corrupt(f"its superblock has the version {file.version}")
    if file.version >= 2:
        width, length = head.number(1), head.number(1)
        skip = 12
    else:
        head.take(4)
        width, length = head.number(1), head.number(1)
        skip = 24 if not file.version else 28
    if width not in (2, 4, 8) or length not in (2, 4, 8):
        raise Corrupt(f"its addresses have {width} bytes and its lengths {length}")
    rest = Blocks(source, width, length).cursor(
        place + skip, 4 * width if file.version >= 2 else 6 * width, "the superblock"
    )
    base = rest.needed("base address")
    rest.address()
    end = rest.address()
    if file.version < 2:
        rest.address()
        rest.address()
    root = rest.needed("root group")
    # Addresses count from the base, which is where the superblock is unless the file was moved.
    start = base if base == place else place
    if end is not None and end + start - base > source.size:
        file.fault(f"it should have {end} bytes and has {source.size}: cut short", place)
    return Blocks(source.window(start), width, length), root


def _walk(blocks: Blocks, root: int, file: Hdf5File) -> None:
    """Visit every object once; links that lead back, or out, are not followed."""
    todo = [("/", root, 0)]
    seen = {root}
    while todo:
        path, address, depth = todo.pop()
        if len(seen) > _MOST_OBJECTS or depth > _DEEPEST:
            file.fault(f"it has more than {_MOST_OBJECTS} objects, or groups {_DEEPEST} deep")
            return
        inside: list[tuple[str, int, int]] = []
        try:
            found = list(messages(blocks, address))
            kinds = {message.kind for message in found}
            if LAYOUT in kinds:
                dataset = _dataset(blocks, path, found, file)
                file.datasets.append(replace(dataset, header=address))
            elif DATATYPE not in kinds:  # a type that has a name is no group
                file.groups.append(path)
                for link in links_of(blocks, found):
                    inside.extend(_follow(link, path, depth, seen, file))
        except Corrupt as error:
            file.fault(f"{path[:100]}: {error.message}", address)
            found = []
        _attributes(blocks, path, found, file)
        todo.extend(reversed(inside))


def _follow(
    link: Link, path: str, depth: int, seen: set[int], file: Hdf5File
) -> Iterator[tuple[str, int, int]]:
    place = f"{path.rstrip('/')}/{link.name}"[:1000]
    if link.kind != "hard":
        file.links.append(Hdf5Link(path=place, kind=link.kind, target=link.target[:200]))
    elif link.address in seen:
        file.shared.append(place)
    else:
        seen.add(link.address)
        yield place, link.address, depth + 1
    if len(file.links) + len(file.shared) > _MOST_OBJECTS:
        raise Corrupt("it has more links than are read here")


def _attributes(blocks: Blocks, path: str, found: list[Message], file: Hdf5File) -> None:
    kept: dict[str, Any] = {}
    try:
        for data in attributes_of(blocks, found):
            file.attribute_count += 1
            if file.attribute_count > _MOST_ATTRIBUTES:
                file.fault(f"it has more than {_MOST_ATTRIBUTES} attributes")
                break
            name, value = attribute(blocks, data)
            kept[name] = value
    except Corrupt as error:
        file.fault(f"{path[:100]}: {error.message}")
    if kept:
        file.attributes[path] = kept


def _dataset(blocks: Blocks, path: str, found: list[Message], file: Hdf5File) -> Hdf5Dataset:
    by_kind = {message.kind: message for message in found}
    if DATASPACE not in by_kind or DATATYPE not in by_kind:
        raise Corrupt("a dataset has no shape or no type")
    shape = shape_of(Cursor(by_kind[DATASPACE].data, blocks, "a shape"))
    dtype = type_of(blocks, by_kind[DATATYPE])
    place = layout(Cursor(by_kind[LAYOUT].data, blocks, "a layout"))
    size = math.prod(shape) * dtype.size
    dataset = Hdf5Dataset(
        path=path,
        dtype=dtype.name,
        shape=shape,
        layout=place.kind,
        start=None if place.start is None else place.start + file.start,
        size=size,
        filters=_filters(blocks, by_kind),
        external=_external(blocks, by_kind),
    )
    _judge(dataset, place, blocks.size, file)
    return dataset


def _filters(blocks: Blocks, by_kind: dict[int, Message]) -> tuple[str, ...]:
    message = by_kind.get(FILTERS)
    return () if message is None else filters(Cursor(message.data, blocks, "a filter"))


def _external(blocks: Blocks, by_kind: dict[int, Message]) -> tuple[str, ...]:
    message = by_kind.get(EXTERNAL)
    if message is None:
        return ()
    return external_files(blocks, Cursor(message.data, blocks, "a list of files"))


def _judge(dataset: Hdf5Dataset, place: Layout, size: int, file: Hdf5File) -> None:
    """Compare what a dataset claims with what the file can hold."""
    path = dataset.path[:100]
    if dataset.size > max(_SMALL, size * _RATIO):
        file.fault(f"{path} claims {dataset.size} bytes, which {size} cannot hold")
    elif place.kind == "contiguous" and place.start is not None and not dataset.external:
        if place.size not in (None, dataset.size):
            file.fault(f"{path} keeps {place.size} bytes for {dataset.size}")
        elif place.start + dataset.size > size:
            file.fault(f"{path} goes beyond the file's end", place.start)
    elif place.kind == "compact" and place.size != dataset.size:
        file.fault(f"{path} keeps {place.size} bytes for {dataset.size}")
