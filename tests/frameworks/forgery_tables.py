"""Node tables with one thing changed: what ``forgery_sklearn.py`` tries."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from holdfast import frameworks
from holdfast.codec.arrays import load_array, store_array
from holdfast.codec.tensors import TensorView
from holdfast.record import Structure

SEQUENCES = (
    "list", "tuple", "set", "frozenset", "slice", "range", "dict", "ordereddict", "textdict",
)  # fmt: skip
HOLDERS = ("bytes", "bytearray", "ints", "floats", "array", "buffer")
ENDS = 3  # how many items of a long sequence are changed, from either end


class Draft:
    """A node table that may be changed, and the tensors it names."""

    def __init__(self, types: list[str], nodes: list[Any], root: int, views: dict[str, Any]):
        self.types = types
        self.nodes = nodes
        self.root = root
        self.views = views

    @classmethod
    def of(cls, structure: Structure, views: dict[str, TensorView]) -> Draft:
        return cls(list(structure.types), list(structure.nodes), structure.root, views)

    def copy(self) -> Draft:
        return Draft(list(self.types), list(self.nodes), self.root, dict(self.views))

    def add(self, node: Any) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1

    def array(self, index: int) -> np.ndarray[Any, Any]:
        """Return the content of an array or column node."""
        node = self.nodes[index]
        return load_array(self.views[node[1]], node[2] if node[0] == "array" else {})

    def add_array(self, array: np.ndarray[Any, Any], like: Any = ("array",)) -> int:
        """Add an array under a name of its own; ``like`` is a node whose kind it takes."""
        stored, name = store_array(array), f"forged{len(self.nodes)}"
        tensor = stored.tensor
        self.views[name] = TensorView(tensor.dtype, tensor.shape, memoryview(bytes(tensor.load())))
        kind = like[0]
        return self.add((kind, name, stored.options) if kind == "array" else (kind, name))

    def sealed(self) -> tuple[Structure, dict[str, TensorView]]:
        """Return what is reachable from the root, renumbered, as an honest writer would."""
        order, seen = [self.root], {self.root}
        for index in order:
            fresh = [ref for ref in children(self.nodes[index]) if ref not in seen]
            for ref in dict.fromkeys(fresh):
                seen.add(ref)
                order.append(ref)
        places = {old: new for new, old in enumerate(order)}
        types = dict.fromkeys(self.nodes[i][1] for i in order if self.nodes[i][0] == "object")
        renamed = {old: new for new, old in enumerate(types)}
        nodes = tuple(moved(self.nodes[index], places, renamed) for index in order)
        used = {node[1] for node in nodes if node[0] in HOLDERS}
        views = {name: view for name, view in self.views.items() if name in used}
        return Structure(types=tuple(self.types[i] for i in types), nodes=nodes, root=0), views


def children(node: Any) -> list[int]:
    if node[0] == "object":
        return list(node[2].values())
    if node[0] == "objects":
        return list(node[2])
    return list(node[1]) if node[0] in SEQUENCES else []


def moved(node: Any, places: dict[int, int], types: dict[int, int]) -> Any:
    if node[0] == "object":
        fields = {name: places[ref] for name, ref in node[2].items()}
        return ("object", types[node[1]], fields)
    if node[0] == "objects":
        return ("objects", node[1], [places[ref] for ref in node[2]], node[3])
    if node[0] in SEQUENCES:
        return (node[0], [places[ref] for ref in node[1]])
    return node


class Lie(NamedTuple):
    """One change.

    Attributes:
        path: Where.
        what: Which.
        tell: Makes it in a draft.
    """

    path: str
    what: str
    tell: Callable[[Draft], None]


# Leaves that take a field's place.
VALUES: list[Any] = [
    *(("int", n) for n in (0, -1, 1, 2, 7, 2**31 - 1, -(2**31), 2**31)),
    ("int", hex(2**62)), ("int", hex(2**70)), ("bool", True), ("bool", False),
    *(("float", text) for text in ("nan", "inf", "-1.5", "0.5", "1e300")),
    ("none",), ("str", ""), ("str", "x"), ("strings", ["a", "b"]), ("list", []), ("tuple", []),
    ("dict", []), ("scalar", "<i8", (2**62).to_bytes(8, "little").hex()),
    ("scalar", "<i4", "ffffffff"), ("scalar", "<f8", "000000000000f87f"), ("nptype", "int32"),
]  # fmt: skip
ARRAYS: list[np.ndarray[Any, Any]] = [
    np.zeros(0), np.zeros((0, 0)), np.array(-1), np.full(3, 2**31 - 1), np.full((2, 2), np.nan),
]  # fmt: skip


def lies(draft: Draft) -> Iterator[Lie]:
    """Yield first a change that changes nothing, then every change of every node."""
    yield Lie("", "nothing", lambda _: None)
    queue, seen = deque([(draft.root, "")]), {draft.root}
    while queue:
        index, path = queue.popleft()
        node = draft.nodes[index]
        yield from node_lies(draft, index, path)
        for step, ref in steps(draft, node):
            if ref not in seen:
                seen.add(ref)
                queue.append((ref, f"{path}{step}"))


def steps(draft: Draft, node: Any) -> Iterator[tuple[str, int]]:
    """Yield what a node refers to, with how that is written."""
    if node[0] == "object":
        yield from ((f".{name}", ref) for name, ref in node[2].items())
    elif node[0] == "textdict":
        yield from zip((".keys()", ".values()"), node[1], strict=True)
    elif "dict" in node[0]:
        for place in range(0, len(node[1]), 2):
            key = draft.nodes[node[1][place]]
            yield f"[{key[-1]!r}]", node[1][place + 1]
            yield f".keys[{place // 2}]", node[1][place]
    else:
        yield from ((f"[{place}]", ref) for place, ref in enumerate(children(node)))


def node_lies(draft: Draft, index: int, path: str) -> Iterator[Lie]:
    node = draft.nodes[index]
    if node[0] == "object":
        yield from object_lies(draft, index, path)
    elif node[0] == "objects":
        yield from sequence_lies(draft, index, path, place=2)
    elif node[0] == "textdict":
        yield from text_dict_lies(draft, index, path)
    elif node[0] in SEQUENCES:
        yield from sequence_lies(draft, index, path, place=1)
    elif node[0] == "strings":
        yield from text_lies(node[1], index, path)
    elif node[0] in ("array", "ints", "floats"):
        for what, array in array_lies(draft.array(index)):
            yield Lie(path, what, replace_array(index, array))


def replace(index: int, node: Any) -> Callable[[Draft], None]:
    return lambda draft: draft.nodes.__setitem__(index, node)


def replace_array(index: int, array: np.ndarray[Any, Any]) -> Callable[[Draft], None]:
    def tell(draft: Draft) -> None:
        draft.nodes[index] = draft.nodes[draft.add_array(array, draft.nodes[index])]

    return tell


Put = Callable[[Draft, int], None]


def exchanges(put: Put, path: str) -> Iterator[Lie]:
    """Yield changes that put another value in a place."""
    for value in VALUES:
        yield Lie(path, f"= {value[1:] or value[0]}", lambda d, v=value: put(d, d.add(v)))
    for array in ARRAYS:
        shown = f"= array {array.dtype}{array.shape}"
        yield Lie(path, shown, lambda d, a=array: put(d, d.add_array(a)))


def set_field(index: int, name: str) -> Put:
    def put(draft: Draft, ref: int) -> None:
        kind, type_, fields = draft.nodes[index]
        draft.nodes[index] = (kind, type_, {**fields, name: ref})

    return put


def object_lies(draft: Draft, index: int, path: str) -> Iterator[Lie]:
    _, type_, fields = draft.nodes[index]
    words = vocabulary(draft.types[type_])
    for name, ref in fields.items():
        put, where = set_field(index, name), f"{path}.{name}"
        rest = {key: value for key, value in fields.items() if key != name}
        yield Lie(where, "dropped", replace(index, ("object", type_, rest)))
        yield from exchanges(put, where)
        for other, another in rest.items():
            if another != ref:
                yield Lie(where, f"= .{other}", lambda d, p=put, r=another: p(d, r))
        for word in words.get(name, ()):
            yield Lie(where, f"= {word!r}", lambda d, p=put, w=word: p(d, d.add(("str", w))))
    for kind in relatives(draft.types[type_], set(fields)):
        yield Lie(path, f"is a {kind}", retype(index, kind))


def retype(index: int, kind: str) -> Callable[[Draft], None]:
    def tell(draft: Draft) -> None:
        if kind not in draft.types:
            draft.types.append(kind)
        draft.nodes[index] = ("object", draft.types.index(kind), draft.nodes[index][2])

    return tell


def vocabulary(type_id: str) -> dict[str, list[str]]:
    """Return the words that a class accepts for its parameters."""
    kind = frameworks.registry().by_id[type_id].locate()
    rules = getattr(kind, "_parameter_constraints", {})
    return {
        name: sorted({str(word) for rule in rule_list for word in getattr(rule, "options", ())})
        for name, rule_list in rules.items()
        if isinstance(rule_list, list)
    }


def relatives(type_id: str, fields: set[str]) -> list[str]:
    """Return other types whose objects may have these attributes."""
    known = frameworks.registry().by_id
    fit = [i for i, s in known.items() if s.fields is not None and fields <= s.fields]
    return [kind for kind in fit if kind != type_id and kind.startswith("sklearn.")][:8]


def sequence_lies(draft: Draft, index: int, path: str, place: int) -> Iterator[Lie]:
    """Change a node that refers to others by position."""
    node = draft.nodes[index]
    refs, size = list(node[place]), 2 if "dict" in node[0] else 1

    def with_refs(new: list[int]) -> Callable[[Draft], None]:
        shape = {1: [len(new)]} if place == 2 else {}
        parts = [shape.get(i, new if i == place else part) for i, part in enumerate(node)]
        return replace(index, tuple(parts))

    yield Lie(path, "emptied", with_refs([]))
    yield Lie(path, "last twice", with_refs([*refs, *refs[-size:]]))
    yield Lie(path, "backwards", with_refs(refs[::-1]))
    yield Lie(path, "last cut", with_refs(refs[:-size]))
    yield Lie(path, "first cut", with_refs(refs[size:]))
    for at in ends(len(refs)):

        def put(d: Draft, ref: int, at: int = at) -> None:
            with_refs([*refs[:at], ref, *refs[at + 1 :]])(d)

        yield from exchanges(put, f"{path}[#{at}]")
        yield Lie(f"{path}[#{at}]", "= the next", lambda d, p=put, a=at: p(d, refs[a - size]))


def text_dict_lies(draft: Draft, index: int, path: str) -> Iterator[Lie]:
    """Write a dict of texts to numbers member by member, with another value for one of them."""
    keys, values = (draft.nodes[ref] for ref in draft.nodes[index][1])
    if values[0] == "strings":
        members = [("str", text) for text in values[1]]
    else:
        kind = values[0].removesuffix("s")
        numbers = draft.array(draft.nodes[index][1][1]).tolist()
        members = [(kind, number if kind == "int" else repr(number)) for number in numbers]
    for at in ends(len(members)):

        def put(d: Draft, ref: int, at: int = at) -> None:
            refs = [d.add(member) for member in members]
            refs[at] = ref
            pairs = zip((d.add(("str", key)) for key in keys[1]), refs, strict=True)
            d.nodes[index] = ("dict", [ref for pair in pairs for ref in pair])

        yield from exchanges(put, f"{path}[{keys[1][at]!r}]")


def ends(count: int) -> list[int]:
    return [at for at in range(count) if at < ENDS or at >= count - ENDS]


def text_lies(texts: list[str], index: int, path: str) -> Iterator[Lie]:
    for what, new in {
        "emptied": [], "last twice": [*texts, *texts[-1:]], "backwards": texts[::-1],
        "last cut": texts[:-1], "all the same": texts[:1] * len(texts), "blank": [""] * len(texts),
    }.items():  # fmt: skip
        yield Lie(path, what, replace(index, ("strings", list(new))))


def array_lies(array: np.ndarray[Any, Any]) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Yield arrays that differ in content, shape, type or layout."""
    yield from ((f"holds {what}", new) for what, new in contents(array))
    yield from ((f"has {what}", new) for what, new in shapes(array))
    for dtype in ("<f4", "<f8", "<i4", "<i8", "|i1", "|u1", "|b1", "<f2", ">f8", "<c16", "<U3"):
        if array.dtype != dtype:
            with np.errstate(all="ignore"), contextlib.suppress(TypeError, ValueError):
                yield f"as {dtype}", array.astype(dtype)
    if array.nbytes:
        yield "as bytes", np.frombuffer(array.tobytes(), np.uint8)
    yield "in Fortran order", np.asfortranarray(array)
    locked = array.copy()
    locked.flags.writeable = not array.flags.writeable
    yield "read-only or not", locked


def contents(array: np.ndarray[Any, Any]) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    for name in array.dtype.names or ():
        for what, new in contents(array[name].copy()):
            whole = array.copy()
            whole[name] = new
            yield f"{name} {what}", whole
    extremes: list[Any] = {
        "i": [-1, 0, 1, 2**31 - 1, -(2**31), 2**62, array.size],
        "u": [0, 1, 255, array.size],
        "f": [np.nan, np.inf, -np.inf, 0.0, -1.5, 1e300, 1e-310, 2.0**62],
        "b": [True, False],
        "U": ["", "x"],
    }.get(array.dtype.kind, [])
    if array.dtype.kind in "iu":
        bounds = np.iinfo(array.dtype)
        extremes = [n for n in (*extremes, bounds.max) if bounds.min <= n <= bounds.max]
    for value in extremes:
        with np.errstate(all="ignore"):
            yield f"{value} everywhere", np.full_like(array, value)
            for place in {0, array.size // 2, array.size - 1} if array.size > 1 else ():
                new = array.copy()
                new.flat[place] = value
                yield f"{value} at {place}", new
    if array.ndim and len(array) > 1:
        yield "its rows backwards", array[::-1].copy()
    if array.dtype.kind in "iuf" and array.size:
        yield "one more everywhere", array + array.dtype.type(1)


def shapes(array: np.ndarray[Any, Any]) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    for axis in range(min(array.ndim, 3)):
        size = array.shape[axis]
        if size:
            yield f"one less along {axis}", np.delete(array, -1, axis)
            last = np.take(array, [-1], axis)
            yield f"one more along {axis}", np.concatenate([array, last], axis)
        yield f"none along {axis}", np.take(array, np.arange(0), axis)
        yield f"two along {axis}", np.repeat(array, 2, axis)
    if array.ndim > 1:
        yield "turned axes", array.T.copy()
        yield "one axis", array.ravel()
    if array.size:
        yield "no axis", array.ravel()[0].reshape(())
    yield "an axis more", array[None].copy()
    yield "an axis more at the end", array[..., None].copy()
