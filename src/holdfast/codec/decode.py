"""Building what an audit has seen: shells first, then values in dependency order, then fills."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from holdfast.codec.arrays import dtype_of, load_array
from holdfast.codec.audit import Audit
from holdfast.codec.nodes import BUILTINS, FILE, IMMUTABLE, MUTABLE, NUMPY_TYPES, OBJECT
from holdfast.codec.registry import Registry, TypeSpec
from holdfast.codec.tensors import TensorView
from holdfast.errors import Corrupt, HoldfastError
from holdfast.record import Structure

__all__ = ["decode"]

_MAKE: Final = 0
_FILL: Final = 1
_COMPLETE: Final = 2


def decode(
    structure: Structure,
    tensors: Mapping[str, TensorView],
    registry: Registry,
    audit: Audit,
    files: Mapping[str, memoryview] = MappingProxyType({}),
) -> Any:
    """Build the object graph of an audited node table.

    Args:
        structure: The node table that ``audit`` judged.
        tensors: The tensors by name, verified.
        registry: The registry the audit used.
        audit: Its result.
        files: The version's files by name, verified; a node that names one has it as its value.

    Raises:
        Corrupt: Values contradict their type, or references form an impossible cycle.
        MissingExtra: A package that a type needs is not installed.
    """
    return _Decoder(structure, tensors, registry, audit, files).run()


class _Decoder:
    """Kahn's algorithm over three kinds of steps: *make*, *fill* and *complete* a node.

    A mutable's value is an empty shell that exists at once, so cycles through it resolve; its
    fill waits for its children's values. A tuple is made when its children's values exist. An
    object with ``build``, and whatever must be hashed, waits until what it refers to is
    complete: filled, and all that hangs below it too.
    """

    def __init__(
        self,
        structure: Structure,
        tensors: Mapping[str, TensorView],
        registry: Registry,
        audit: Audit,
        files: Mapping[str, memoryview],
    ) -> None:
        self.nodes = structure.nodes
        self.root = structure.root
        self.tensors = tensors
        self.files = files
        self.specs = [registry.by_id[name] for name in structure.types]
        self.children = audit.children
        self.values: list[Any] = [None] * len(self.nodes)
        self.has_steps: Sequence[bool] = ()

    def run(self) -> Any:
        waiting, blocked, ready = self._plan()
        undone = sum(1 for step in waiting if step % 3 != _COMPLETE)
        while ready:
            step = ready.popleft()
            if step % 3 != _COMPLETE:
                self._do(step)
                undone -= 1
            for later in blocked.pop(step, ()):
                waiting[later] -= 1
                if waiting[later] == 0:
                    ready.append(later)
        if undone:
            raise Corrupt("references form a cycle that no Python object can have")
        return self.values[self.root]

    def _plan(self) -> tuple[dict[int, int], dict[int, list[int]], deque[int]]:
        """Return per step how many steps it waits for, and per step who waits for it.

        Steps ``3i``, ``3i + 1`` and ``3i + 2`` make, fill and complete node i. Leaves and shells
        are made here, since they wait for nothing; a node without children is complete at once.
        """
        waiting: dict[int, int] = {}
        blocked: dict[int, list[int]] = {}

        def plan(step: int, needs: set[int]) -> None:
            waiting[step] = len(needs)
            for need in needs:
                blocked.setdefault(need, []).append(step)

        made_later = [self._made_later(node) for node in self.nodes]
        self.has_steps = [
            bool(children) or made or self._filled_later(node)
            for children, made, node in zip(self.children, made_later, self.nodes, strict=True)
        ]
        whole = any(spec.build or spec.migrate for spec in self.specs) or any(
            self._whole_children(index, node) for index, node in enumerate(self.nodes)
        )
        for index, node in enumerate(self.nodes):
            children = self.children[index]
            if not made_later[index]:
                self.values[index] = self._leaf_or_shell(node)
            if not children and not made_later[index] and not self._filled_later(node):
                continue
            step = 3 * index + (_MAKE if made_later[index] else _FILL)
            needs = {3 * child for child in children if made_later[child]}
            whole_children = self._whole_children(index, node)
            plan(step, needs | {3 * child + _COMPLETE for child in whole_children})
            if whole:
                below = {3 * child + _COMPLETE for child in children if self.has_steps[child]}
                plan(3 * index + _COMPLETE, {step} | below)
        ready = deque(step for step, count in waiting.items() if count == 0)
        return waiting, blocked, ready

    def _whole_children(self, index: int, node: Sequence[Any]) -> list[int]:
        """Return the children that must be complete before this node's value is used."""
        children: Sequence[int] = ()
        if node[0] == "object" and (self.specs[node[1]].build or self.specs[node[1]].migrate):
            children = self.children[index]
        elif node[0] in ("set", "frozenset"):
            children = node[1]
        elif node[0] in ("dict", "ordereddict"):
            children = node[1][::2]
        return [child for child in children if self.has_steps[child]]

    def _made_later(self, node: Sequence[Any]) -> bool:
        if node[0] == "object":
            return self.specs[node[1]].build is not None
        return node[0] in IMMUTABLE

    def _filled_later(self, node: Sequence[Any]) -> bool:
        if node[0] == "object":
            return self.specs[node[1]].build is None
        return node[0] in MUTABLE

    def _leaf_or_shell(self, node: Sequence[Any]) -> Any:
        maker = _MAKERS.get(node[0])
        if maker is not None:
            return maker(self, node)
        spec = self.specs[node[1]]
        kind = spec.locate()
        return kind.__new__(kind)

    def _do(self, step: int) -> None:
        index, kind = divmod(step, 3)
        is_fill = kind == _FILL
        node = self.nodes[index]
        if node[0] == "object":
            spec = self.specs[node[1]]
            fields = {name: self.values[ref] for name, ref in node[2].items()}
            if spec.migrate is not None:
                fields = dict(_sound(spec, spec.migrate, fields))
            if spec.lacking is not None:
                fields = {**spec.lacking(), **fields}
            if is_fill:
                vars(self.values[index]).update(fields)
            elif spec.build is not None:
                self.values[index] = _sound(spec, spec.build, fields)
            return
        try:
            if is_fill:
                _FILLERS[node[0]](self.values[index], node, self.values)
            else:
                self.values[index] = _COMPOSERS[node[0]]([self.values[ref] for ref in node[1]])
        except (TypeError, ValueError, RecursionError) as error:
            if isinstance(error, Corrupt):
                raise
            raise Corrupt(f"node {index} ({node[0]}) cannot be built: {error!s:.100}") from error


def _sound(spec: TypeSpec, make: Callable[[Mapping[str, Any]], Any], fields: Any) -> Any:
    try:
        return make(fields)
    except HoldfastError:
        raise
    except Exception as error:
        raise Corrupt(
            f"{spec.id} cannot be built from its fields: {type(error).__name__}: {error!s:.200}"
        ) from error


def _scalar(_: _Decoder, node: Sequence[Any]) -> Any:
    dtype = dtype_of(node[1])
    data = bytes.fromhex(node[2])
    if dtype.kind == "S":
        return np.bytes_(data)  # an item of an array would lose its last zeros
    if dtype.kind == "U":
        return np.str_(data.decode("utf-32-le", "surrogatepass"))
    return np.frombuffer(data, dtype=dtype.newbyteorder("<"))[0]


def _tensor(decoder: _Decoder, name: str) -> TensorView:
    return decoder.tensors[name]


_MAKERS: Final[dict[str, Callable[[_Decoder, Sequence[Any]], Any]]] = {
    "none": lambda _, __: None,
    "ellipsis": lambda _, __: ...,
    "bool": lambda _, node: node[1],
    "int": lambda _, node: node[1] if isinstance(node[1], int) else int(node[1], 16),
    "float": lambda _, node: float(node[1]),
    "complex": lambda _, node: complex(float(node[1]), float(node[2])),
    "str": lambda _, node: node[1],
    "wtf8": lambda _, node: bytes.fromhex(node[1]).decode("utf-8", "surrogatepass"),
    "strings": lambda _, node: list(node[1]),
    "bytes": lambda decoder, node: bytes(_tensor(decoder, node[1]).data),
    "bytearray": lambda decoder, node: bytearray(_tensor(decoder, node[1]).data),
    "ints": lambda decoder, node: load_array(_tensor(decoder, node[1]), {}).tolist(),
    "floats": lambda decoder, node: load_array(_tensor(decoder, node[1]), {}).tolist(),
    "array": lambda decoder, node: load_array(_tensor(decoder, node[1]), node[2]),
    "objects": lambda _, node: np.empty(node[1], dtype=object, order=node[3].get("order", "C")),
    "scalar": _scalar,
    "dtype": lambda _, node: np.dtype(object) if node[1] == OBJECT else dtype_of(node[1]),
    "nptype": lambda _, node: NUMPY_TYPES[node[1]],
    "builtin": lambda _, node: BUILTINS[node[1]],
    "buffer": lambda decoder, node: _tensor(decoder, node[1]),
    FILE: lambda decoder, node: decoder.files[node[1]],
    "list": lambda _, __: [],
    "dict": lambda _, __: {},
    "textdict": lambda _, __: {},
    "ordereddict": lambda _, __: OrderedDict(),
    "set": lambda _, __: set(),
}


_COMPOSERS: Final[dict[str, Callable[[list[Any]], Any]]] = {
    "tuple": tuple,
    "frozenset": frozenset,
    "slice": lambda parts: slice(*parts),
    "range": lambda parts: range(*parts),
}


def _fill_dict(target: dict[Any, Any], node: Sequence[Any], values: Sequence[Any]) -> None:
    refs = node[1]
    for position in range(0, len(refs), 2):
        target[values[refs[position]]] = values[refs[position + 1]]
    if len(target) * 2 != len(refs):
        raise Corrupt("a dictionary has the same key twice")


def _fill_text_dict(target: dict[str, Any], node: Sequence[Any], values: Sequence[Any]) -> None:
    keys, members = (values[ref] for ref in node[1])
    target.update(zip(keys, members, strict=True))
    if len(target) != len(keys):
        raise Corrupt("a dictionary has the same key twice")


def _fill_set(target: set[Any], node: Sequence[Any], values: Sequence[Any]) -> None:
    target.update(values[ref] for ref in node[1])
    if len(target) != len(node[1]):
        raise Corrupt("a set has the same member twice")


def _fill_objects(target: np.ndarray[Any, Any], node: Sequence[Any], values: Sequence[Any]) -> None:
    for position, ref in zip(np.ndindex(*target.shape), node[2], strict=True):
        target[position] = values[ref]
    if node[3].get("readonly"):
        target.flags.writeable = False


_FILLERS: Final[dict[str, Callable[[Any, Sequence[Any], Sequence[Any]], None]]] = {
    "list": lambda target, node, values: target.extend(values[ref] for ref in node[1]),
    "dict": _fill_dict,
    "textdict": _fill_text_dict,
    "ordereddict": _fill_dict,
    "set": _fill_set,
    "objects": _fill_objects,
}
