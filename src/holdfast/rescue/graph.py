"""A pickle's graph taken over as values: plain ones as they are, objects as stand-ins.

Nothing that the pickle names is imported or called. What is no value of Python or numpy is either
an instance of a class that the registry keeps as data, and a stand-in then carries its attributes
to the codec, or it is refused with its path.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from typing import Any, Final

import numpy as np

from holdfast import codec
from holdfast.codec.function_table import FUNCTIONS
from holdfast.codec.nodes import BUILTINS, NUMPY_TYPES
from holdfast.codec.registry import Registry
from holdfast.codec.tensors import TensorData, TensorView
from holdfast.errors import Corrupt, EnvironmentMismatch, Unsupported
from holdfast.rescue import arrays
from holdfast.rescue.mapped import writable
from holdfast.rescue.stand_ins import Cast, is_called
from holdfast.trust.pickles import Call, Global, LongBytearray, Members, Pairs, Persistent

__all__ = ["Graph", "built"]

_DEPTH: Final = 300
# Parts that their owners' encoders look at or leave out; one that is encoded itself is refused.
_PARTS: Final = ("sklearn.",)
# What their own __setstate__ makes from the rest; the registry's way would leave it out.
_REMADE: Final = frozenset({"sklearn.isotonic:IsotonicRegression"})
# Functions that objects of scipy hold for themselves.
_DERIVED: Final = frozenset({"_asarray"})
_BUNCHES: Final = frozenset({"sklearn.utils:Bunch", "sklearn.utils._bunch:Bunch"})
_TUPLES: Final = {
    "sklearn.impute._iterative:_ImputerTriplet": (
        "sklearn._ImputerTriplet",
        ("feat_idx", "neighbor_feat_idx", "estimator"),
    ),
}
_TABLES: Final = frozenset({"_parameters", "_buffers", "_modules"})
_PLAIN: Final = (type(None), bool, int, float, complex, str, bytes)

Special = Callable[["Graph", Call, str], Any]


class Graph:
    """Takes a graph over, value by value; each value of the graph once.

    Args:
        registry: The closed registry.
        data: What was read, for arrays that joblib writes into the stream.
        special: What makes a value of a call, by what is called; for the tensors of torch.
        persistent: What makes a value of something that the file keeps elsewhere.
        modules: Whether modules of torch, of whatever class, become their state_dict.
        whole: Bytes that may be written to and that ``data`` is a view of; arrays then may be
            written to, as those of an unpickler may.
    """

    def __init__(
        self,
        registry: Registry,
        data: memoryview | None,
        *,
        special: Mapping[str, Special] | None = None,
        persistent: Callable[[Any], Any] | None = None,
        modules: bool = False,
        whole: np.ndarray[Any, Any] | None = None,
    ) -> None:
        self.cast = Cast(registry)
        self.stood_in = False
        self._data = data
        self._special = {**_RANDOM, **(special or {})}
        self._persistent = persistent
        self._modules = modules
        self._whole = whole
        self._known: dict[int, Any] = {}
        self._depth = 0

    def make(self, value: Any, path: str) -> Any:
        """Return what a value of the graph stands for.

        Raises:
            Unsupported: It is code, or of a class that is not kept as data; begins with the path.
            Corrupt: It contradicts itself.
        """
        if isinstance(value, _PLAIN):
            return value
        if isinstance(value, memoryview):
            return bytes(value)
        if id(value) in self._known:
            return self._known[id(value)]
        self._depth += 1
        if self._depth > _DEPTH:
            raise Unsupported(f"{path[:200]} is nested more than {_DEPTH} deep")
        try:
            return self._made(value, path)
        finally:
            self._depth -= 1

    def keep(self, value: Any, made: Any) -> Any:
        """Remember what a value became; before its parts are made, so that cycles end."""
        self._known[id(value)] = made
        return made

    def _made(self, value: Any, path: str) -> Any:  # noqa: PLR0911 - one answer for each kind
        if isinstance(value, tuple):
            return tuple(self.make(item, f"{path}[{i}]") for i, item in enumerate(value))
        if isinstance(value, list):
            found: list[Any] = self.keep(value, [])
            found.extend(self.make(item, f"{path}[{i}]") for i, item in enumerate(value))
            return found
        if isinstance(value, Pairs):
            return self.fill(self.keep(value, {}), value.items, path)
        if isinstance(value, Members):
            members = [self.make(item, f"{path}{{{i}}}") for i, item in enumerate(value.items)]
            return self.keep(value, frozenset(members) if value.frozen else set(members))
        if isinstance(value, bytearray | LongBytearray):
            return self.keep(value, bytearray(arrays.bytes_of(value)))
        if isinstance(value, Persistent) and self._persistent is not None:
            return self.keep(value, self._persistent(value))
        if isinstance(value, Global):
            function = _function(value)
            if function is not None:
                return self.keep(value, self._stand("function", {"name": function}))
            return _class(value, path)
        return self._called(value, path)

    def fill(self, target: Any, items: Iterable[tuple[Any, Any]], path: str) -> Any:
        """Put pairs into a mapping and return it."""
        for key, item in items:
            name = key if isinstance(key, str | int) else "…"
            made_key = self.make(key, f"{path}.keys()")
            made = self.make(item, f"{path}[{name!r:.60}]")
            try:
                target[made_key] = made
            except TypeError as error:
                raise Corrupt(f"{path[:200]} has a key that cannot be one") from error
        return target

    def _called(self, value: Any, path: str) -> Any:  # noqa: C901, PLR0911 - same
        if arrays.is_array(value):
            found = arrays.array_of(value, self._data)
            if isinstance(found, arrays.Objects):
                return self.keep(value, found.build(lambda item: self.make(item, f"{path}[…]")))
            found = found if found.flags.aligned else found.copy(order="K")
            return self.keep(value, found if self._whole is None else writable(found, self._whole))
        if arrays.is_dtype(value):
            return self.keep(value, arrays.dtype_of(value))
        if arrays.is_scalar(value):
            return self.keep(value, arrays.scalar_of(value))
        if arrays.is_bytes(value):
            return self.keep(value, bytes(arrays.bytes_of(value)))
        if type(value) is not Call or type(value.function) is not Global:
            raise Unsupported(f"{path[:200]} is computed by the file, which is code")
        key = value.function.key
        if key in self._special:
            return self._special[key](self, value, path)
        container = _CONTAINERS.get(key)
        if container is not None:
            return container(self, value, path)
        if key in _BUNCHES:
            members: dict[Any, Any] = {}
            made = self.keep(value, self._stand("sklearn.Bunch", {"items": members}))
            self.fill(members, value.items, path)
            return made
        if key in _TUPLES and type(value.arguments) is tuple:
            type_id, names = _TUPLES[key]
            parts = (self.make(part, path) for part in value.arguments)
            return self.keep(value, self._stand(type_id, dict(zip(names, parts, strict=True))))
        compiled = _compiled(value)
        if compiled is not None:
            key = compiled.key
        tables = _tables(value) if self._modules else None
        if tables is not None:
            return self._module_state(value, tables, path)
        return self._instance(value, key, path)

    def _stand(self, type_id: str, fields: dict[str, Any]) -> Any:
        self.stood_in = True
        return self.cast.fields(type_id, fields)

    def _module_state(self, call: Call, tables: Mapping[str, Pairs], path: str) -> Any:
        """Return what the ``state_dict`` of a module of torch is, from its three tables."""
        found: OrderedDict[str, Any] = self.keep(call, OrderedDict())
        for name in ("_parameters", "_buffers"):
            for key, tensor in self.make(tables[name], f"{path}.{name}").items():
                if tensor is not None:
                    found[str(key)] = tensor
        for key, child in self.make(tables["_modules"], f"{path}._modules").items():
            if not isinstance(child, OrderedDict | None):
                raise Unsupported(f"{path[:200]}.{key!s:.60} is a module that is no plain one")
            found.update({f"{key}.{name}": tensor for name, tensor in (child or {}).items()})
        return found

    def _instance(self, call: Call, key: str, path: str) -> Any:
        if self.cast.spec(key) is None and not key.startswith(_PARTS):
            raise Unsupported(f"{path[:200]} is a {key.replace(':', '.')}, not known to be data")
        if key in _REMADE:
            raise Unsupported(
                f"{path[:200]} is a {key.replace(':', '.')}, made anew by its own code"
            )
        self.stood_in = True
        made = self.keep(call, self.cast.instance(key))
        arguments = tuple(
            type(made) if isinstance(item, Global) else self.make(item, f"{path}.arguments")
            for item in (call.arguments if type(call.arguments) is tuple else ())
        )
        attributes = vars(made)
        if not is_called(made):
            spec = self.cast.spec(key)
            for state in call.states:
                attributes.update(self._state(state, path, spec.derived if spec else frozenset()))
            if call.items or call.appended or call.added:
                raise Unsupported(
                    f"{path[:200]} is a {key.replace(':', '.')} with items of its own"
                )
            return made
        attributes["arguments"] = arguments
        if call.function.key != key:
            attributes["made_by"] = None
        states = [self.make(state, path) for state in call.states]
        if states:
            attributes["state"] = states[-1]
            if isinstance(states[-1], dict):
                attributes.update({k: v for k, v in states[-1].items() if type(k) is str})
        if key == "sklearn.tree._tree:Tree" and len(arguments) == 3:
            attributes.update(n_features=arguments[0], n_classes=arguments[1])
        return made

    def _state(self, state: Any, path: str, derived: frozenset[str]) -> dict[str, Any]:
        parts = state if type(state) is tuple and len(state) == 2 else (state,)
        found: dict[str, Any] = {}
        for part in parts:
            if part is None:
                continue
            if type(part) is not Pairs or not all(type(key) is str for key, _ in part.items):
                raise Unsupported(f"{path[:200]} has a state that is no table of attributes")
            for name, item in part.items:
                if name == "_sklearn_version":
                    _same_minor("scikit-learn", item, path)
                    continue
                if name not in derived and name not in _DERIVED:
                    found[name] = self.make(item, f"{path}.{name}")
        return found


def _tables(call: Call) -> dict[str, Pairs] | None:
    """Return the tables that every module of torch has, None for anything else."""
    state = call.states[-1] if call.states else None
    if not call.new or type(state) is not Pairs:
        return None
    found = {key: item for key, item in state.items if key in _TABLES}
    whole = found.keys() == _TABLES and all(_is_table(item) for item in found.values())
    return found if whole else None


def _is_table(value: Any) -> bool:
    ordered = type(value) is Call and type(value.function) is Global
    return type(value) is Pairs or (ordered and value.function.key == "collections:OrderedDict")


def _same_minor(distribution: str, version: Any, path: str) -> None:
    """Refuse what another minor release wrote; looks at the metadata, imports nothing."""
    try:
        here = metadata.version(distribution)
    except metadata.PackageNotFoundError:
        here = "none"
    if str(version).split(".")[:2] != here.split(".")[:2]:
        raise EnvironmentMismatch(
            f"{path[:100]} was written by {distribution} {version!s:.20}, and {here} is installed "
            "here; state of another minor release is not converted yet.",
            hint=f'python -m pip install "{distribution}=={version!s:.20}"  # in an environment '
            "of its own, then convert there",
        )


def _compiled(call: Call) -> Global | None:
    """Return the class of an object that Cython's or scikit-learn's own constructor would make."""
    name = call.function.name
    if not name.startswith("__pyx_unpickle_") and name != "newObj":
        return None
    first = call.arguments[0] if type(call.arguments) is tuple and call.arguments else None
    return first if type(first) is Global and first.module.startswith("sklearn.") else None


def _function(value: Global) -> str | None:
    """Return the name under which the registry keeps a function, by its module and name."""
    package = value.module.partition(".")[0]
    for name, (module, attribute) in FUNCTIONS.items():
        if attribute == value.name and module.partition(".")[0] == package:
            return name
    return None


def _class(value: Global, path: str) -> Any:
    """Return a class that is a value, for example a dtype's."""
    table = {"numpy": NUMPY_TYPES, "builtins": BUILTINS}.get(value.module, {})
    found = table.get(value.name)
    if found is None:
        raise Unsupported(f"{path[:200]} is {value.module}.{value.name}, which is code")
    return found


def _ordered(graph: Graph, call: Call, path: str) -> Any:
    made = graph.keep(call, OrderedDict())
    for part in call.arguments if type(call.arguments) is tuple else ():
        for pair in graph.make(part, path):
            made[pair[0]] = pair[1]
    return graph.fill(made, call.items, path)


def _default(graph: Graph, call: Call, path: str) -> Any:
    factory = call.arguments[0] if call.arguments else None
    made = graph.keep(call, defaultdict(None if factory is None else _class(factory, path)))
    return graph.fill(made, call.items, path)


def _deque(graph: Graph, call: Call, path: str) -> Any:
    arguments = graph.make(call.arguments, path)
    made = graph.keep(call, deque(*arguments) if len(arguments) == 2 else deque())
    made.extend(graph.make(item, f"{path}[…]") for item in call.appended)
    return made


def _set(graph: Graph, call: Call, path: str) -> Any:
    (members,) = graph.make(call.arguments, path) or ((),)
    kind = frozenset if call.function.name == "frozenset" else set
    return graph.keep(call, kind(members))


def _slice(graph: Graph, call: Call, path: str) -> Any:
    kinds = {"slice": slice, "range": range, "complex": complex}
    parts = graph.make(call.arguments, path)
    return graph.keep(call, kinds[call.function.name](*parts))


_CONTAINERS: Final[Mapping[str, Special]] = {
    "collections:OrderedDict": _ordered,
    "collections:defaultdict": _default,
    "collections:deque": _deque,
    "builtins:set": _set,
    "builtins:frozenset": _set,
    "builtins:slice": _slice,
    "builtins:range": _slice,
    "builtins:complex": _slice,
}


def _random_state(graph: Graph, call: Call, path: str) -> Any:
    state: Any = graph.make(call.states[-1], path) if call.states else None
    made = np.random.RandomState()
    try:
        made.set_state(state)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise Corrupt(f"{path[:200]} has no state of a random generator") from error
    return graph.keep(call, made)


def _generator(graph: Graph, call: Call, path: str) -> Any:
    inner = call.arguments[0] if type(call.arguments) is tuple and call.arguments else None
    states = inner.states if type(inner) is Call else []
    last, seeds = (states[-1] if states else None), None
    if type(last) is tuple and len(last) == 2:  # newer releases add the seed sequence
        last, seeds = last[0], _seeds(graph, last[1], path)
    state: Any = graph.make(last, path)
    name = state.get("bit_generator") if isinstance(state, dict) else None
    kind = _BIT_GENERATORS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise Unsupported(f"{path[:200]} is a random generator of an unknown kind")
    bits = kind(seeds)
    try:
        bits.state = state
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise Corrupt(f"{path[:200]} has no state of a random generator") from error
    return graph.keep(call, np.random.Generator(bits))


def _seeds(graph: Graph, call: Any, path: str) -> Any:
    """Return a seed sequence, whose state Cython keeps in the order of its fields' names."""
    arguments = call.arguments if type(call) is Call else ()
    state = call.states[-1] if type(call) is Call and call.states else (*arguments, None)[2]
    if type(state) is not tuple or len(state) < 5:
        return None
    entropy, spawned, _, size, key = (graph.make(part, path) for part in state[:5])
    try:
        return np.random.SeedSequence(
            entropy, spawn_key=key, pool_size=size, n_children_spawned=spawned
        )
    except (TypeError, ValueError) as error:
        raise Corrupt(f"{path[:200]} has no seed sequence") from error


_BIT_GENERATORS: Final[dict[str, Callable[[Any], Any]]] = {
    "MT19937": np.random.MT19937,
    "PCG64": np.random.PCG64,
    "PCG64DXSM": np.random.PCG64DXSM,
    "Philox": np.random.Philox,
    "SFC64": np.random.SFC64,
}
_RANDOM: Final[Mapping[str, Special]] = {
    "numpy.random._pickle:__randomstate_ctor": _random_state,
    "numpy.random._pickle:__generator_ctor": _generator,
}


def built(graph: Graph, root: Any, registry: Registry, label: str) -> Any:
    """Take over a whole graph; objects are encoded, judged and only then built.

    Args:
        graph: The graph, with its cast.
        root: The value to take over.
        registry: The closed registry.
        label: How the root is called in messages.

    Raises:
        Unsupported, Corrupt, EnvironmentMismatch: As ``Graph.make`` and ``codec``.
    """
    try:
        made = graph.make(root, label)
    except (ValueError, TypeError, OverflowError, AttributeError, RecursionError) as error:
        if isinstance(error, Corrupt | Unsupported):
            raise
        raise Corrupt(f"the pickle contradicts itself: {error!s:.120}") from error
    if not graph.stood_in:
        return made
    try:
        encoded = codec.encode(made, graph.cast.registry, label=label)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, Corrupt | Unsupported):
            raise
        raise Unsupported(
            f"an object in {label} is not as its class leaves it: {error!r:.120}"
        ) from error
    views = {name: _view(data) for name, data in encoded.tensors.items()}
    files = {name: memoryview(bytes(data)) for name, data in encoded.files.items()}
    audit = codec.audit(encoded.structure, views, registry, files)
    return codec.decode(encoded.structure, views, registry, audit, files)


def _view(data: TensorData) -> TensorView:
    return TensorView(data.dtype, data.shape, memoryview(bytearray(data.load())))
