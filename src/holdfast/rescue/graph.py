"""A pickle's graph as Python values, with stand-ins for objects; nothing it names is called.

Containers are made empty and filled later, so circles through them come out as they were; what
cannot be made empty, such as a tuple, is made of its parts at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import numpy as np

from holdfast.codec.encode import Path, key_text
from holdfast.codec.registry import Registry
from holdfast.errors import Corrupt, HoldfastError, Unsupported
from holdfast.rescue import arrays, sklearn_versions
from holdfast.rescue.function_names import CLASSES, function_name
from holdfast.rescue.mapped import writable
from holdfast.rescue.stand_ins import Cast
from holdfast.trust.pickles import Call, Global, Inline, LongBytearray, Members, Pairs, Persistent

__all__ = ["Graph", "Recipe", "arguments_of", "key_of", "named", "state_of"]

# Makes the value of a call.
Recipe: TypeAlias = "Callable[[Graph, Call, Path], Any]"

_PLAIN: Final = frozenset(
    {type(None), bool, int, float, str, bytes, bytearray, np.ndarray, np.ma.MaskedArray}
)
_DEPTH: Final = 100
_RECONSTRUCTOR: Final = "copyreg:_reconstructor"
_BOUND: Final = "builtins:getattr"
_VERSION: Final = "_sklearn_version"


def key_of(value: Any) -> str | None:
    """Return the name of a class or function, ``module:name``, or None for anything else."""
    return value.key if type(value) is Global else None


def named(pairs: Any) -> dict[str, Any]:
    """Return a dict whose keys are texts, its values as they are in the graph.

    Raises:
        Corrupt: It is no such dict.
    """
    if type(pairs) is not Pairs or not all(type(key) is str for key, _ in pairs.items):
        raise Corrupt("its state is no dict of names")
    return dict(pairs.items)


def arguments_of(call: Call, *counts: int) -> tuple[Any, ...]:
    """Return a call's arguments once there are as many as there may be.

    Raises:
        Corrupt: There are more or fewer, or names to them.
    """
    if type(call.arguments) is not tuple or len(call.arguments) not in counts or call.keywords:
        raise Corrupt("it is made of other arguments than it takes")
    return call.arguments


def state_of(call: Call) -> Any:
    """Return the one state that is set; None when there is none.

    Raises:
        Corrupt: There are several, or items are put into it.
    """
    if len(call.states) > 1 or call.items or call.appended or call.added:
        raise Corrupt("more is put into it than one state")
    return call.states[0] if call.states else None


class Graph:
    """Makes values of one graph; what occurs twice in it is one object.

    Attributes:
        cast: Makes the stand-ins.
        versions: Of scikit-learn, that estimators say they were made with.
        notes: What the user should know of what was made, a sentence each, each once.
    """

    def __init__(
        self,
        registry: Registry,
        recipes: Mapping[str, Recipe],
        whole: np.ndarray[Any, Any] | None = None,
        *,
        elsewhere: Callable[[Persistent], Any] | None = None,
        first: Recipe | None = None,
        names: Mapping[str, Any] | None = None,
    ) -> None:
        """Begin.

        Args:
            registry: The closed registry.
            recipes: What to make of calls of functions and classes, by ``module:name``.
            whole: The bytes that the graph was read from, of dtype uint8.
            elsewhere: What to make of something that the file keeps elsewhere.
            first: What to make of an object of any other class; None leaves it to the registry.
            names: Values that a name alone stands for, by ``module:name``.
        """
        self.cast = Cast(registry)
        self._elsewhere = elsewhere
        self._first = first
        self.versions: set[str] = set()
        self.notes: dict[str, None] = {}
        self._names = names or {}
        self._recipes = recipes
        self._whole = np.empty(0, np.uint8) if whole is None else whole
        self._made: dict[int, tuple[Any, Any]] = {}
        self._taken: set[int] = set()
        self._queue: deque[Callable[[], object]] = deque()
        self._depth = 0

    def run(self, root: Any, label: str) -> Any:
        """Make the root and everything below it.

        Raises:
            Unsupported: Something in it is not data that is known here; the message names where.
            Corrupt: It contradicts itself.
            EnvironmentMismatch: An estimator is of another scikit-learn.
        """
        made = self.make(root, Path(None, "", label))
        while self._queue:
            self._queue.popleft()()
        return made

    def later(self, action: Callable[[], object]) -> None:
        """Do something once everything known so far is filled."""
        self._queue.append(action)

    def take(self, call: Call) -> None:
        """Mark a call as taken by the recipe of another."""
        self._taken.add(id(call))

    def untaken(self, calls: Iterable[Call]) -> Iterator[Call]:
        """Yield the calls that are no part of what was made."""
        return (call for call in calls if id(call) not in self._taken)

    def make(self, raw: Any, path: Path) -> Any:
        """Make a value; containers may be filled only when ``run`` comes to its end."""
        if type(raw) in _PLAIN:
            return raw
        known = self._made.get(id(raw))
        if known is not None:
            return known[1]
        try:
            made = self._new(raw, path)
        except (Corrupt, Unsupported) as error:
            raise _placed(error, path) from error
        self._made[id(raw)] = (raw, made)
        return made

    def _new(self, raw: Any, path: Path) -> Any:
        self._depth += 1
        try:
            maker = _MAKERS.get(type(raw))
            if isinstance(raw, np.generic | np.dtype):
                return raw
            if self._depth > _DEPTH or maker is None:
                raise Unsupported(
                    "it is kept somewhere else than in this file."
                    if maker is None
                    else "it is nested too deeply."
                )
            return maker(self, raw, path)
        finally:
            self._depth -= 1

    def _tuple(self, raw: Iterable[Any], path: Path) -> tuple[Any, ...]:
        return tuple(self.make(item, _item(path, i)) for i, item in enumerate(raw))

    def _persistent(self, raw: Persistent, _: Path) -> Any:
        if self._elsewhere is None:
            raise Unsupported("it is kept somewhere else than in this file.")
        return self._elsewhere(raw)

    def fill_list(self, made: Any, raw: Iterable[Any], path: Path) -> Any:
        """Append items to something later, and return it."""
        self.later(
            lambda: made.extend(
                item if type(item) in _PLAIN else self.make(item, _item(path, i))
                for i, item in enumerate(raw)
            )
        )
        return made

    def fill_dict(self, made: Any, items: Iterable[tuple[Any, Any]], path: Path) -> Any:
        """Set items of something later, and return it."""

        def fill() -> None:
            for key, value in items:
                if type(key) is str and type(value) in _PLAIN:
                    made[key] = value
                    continue
                step = Path(path, str(key)[:60], f"[{key_text(key)[:60]}]")
                own, part = self.make(key, step), self.make(value, step)
                try:
                    made[own] = part
                except TypeError as error:
                    raise _placed(Corrupt("it is a key and cannot be one"), step) from error

        self.later(fill)
        return made

    def _members(self, raw: Members, path: Path) -> Any:
        made: set[Any] = set()

        def fill() -> set[Any]:
            items = [self.make(item, path) for item in raw.items]
            try:
                made.update(items)
            except TypeError as error:
                raise _placed(Corrupt("it has a member that cannot be one"), path) from error
            return made

        if raw.frozen:
            return frozenset(fill())
        self.later(fill)
        return made

    def _name(self, raw: Global, _: Path) -> Any:
        """Return the class or function that a name stands for, out of closed tables."""
        if raw.key in CLASSES:
            return CLASSES[raw.key]
        if raw.key in self._names:
            return self._names[raw.key]
        return self.function(raw.key)

    def function(self, key: str) -> Any:
        """Return what stands for a function of the codec's table, by ``module:name``."""
        name = function_name(key)
        if name is None:
            raise Unsupported(
                f"it is {key.replace(':', '.'):.200}, a class or function that is not known here; "
                "code is never kept in a file."
            )
        return self.cast.fields("function", {"name": name})

    def _array(self, raw: Any, path: Path) -> Any:
        self._take(raw)
        return self._made_array(arrays.array_of(raw, self._whole.data), path)

    def _made_array(self, found: Any, path: Path) -> Any:
        if isinstance(found, arrays.Objects):
            flat = np.empty(len(found.items), dtype=object)
            self.later(lambda: self._fill_objects(flat, found.items, path))
            return flat.reshape(found.shape, order="F" if found.order == "F" else "C")
        if isinstance(found, arrays.MaskedObjects):
            self.later(lambda: self._fill_objects(found.flat, found.items, path))
            return found.array
        if isinstance(found, np.ma.MaskedArray):
            return found.copy()
        return writable(found, self._whole)

    def _fill_objects(self, flat: Any, items: Iterable[Any], path: Path) -> None:
        for place, item in enumerate(items):
            flat[place] = self.make(item, _item(path, place))

    def _take(self, raw: Any) -> None:
        """Mark the calls that describe arrays, dtypes and scalars as taken, and no others."""
        stack = [raw]
        while stack:
            match stack.pop():
                case Inline() as inline:
                    stack += [*inline.facts.values(), inline.nested]
                    self._taken.add(id(inline.wrapper))
                case Call() as call if id(call) not in self._taken and _is_numpy(call):
                    self._taken.add(id(call))
                    stack += [call.arguments, *call.states]
                case (tuple() | list()) as items:
                    stack += items
                case Pairs(items):
                    stack += [part for pair in items for part in pair]

    def _call(self, raw: Call, path: Path) -> Any:
        """Make what a call would, by a recipe or as a stand-in."""
        if arrays.is_array(raw):
            return self._array(raw, path)
        for is_it, read in _NUMPY:
            if is_it(raw):
                self._take(raw)
                return read(raw)
        self._taken.add(id(raw))
        key = key_of(raw.function)
        if key == _RECONSTRUCTOR:
            raw = _reconstructed(raw)
            key = key_of(raw.function)
        recipe = self._recipes.get(key or "")
        if recipe is not None:
            return recipe(self, raw, path)
        found = None if self._first is None else self._first(self, raw, path)
        if found is not None:
            return found
        spec = None if key is None else self.cast.spec(key)
        if key is None or spec is None or not spec.attributes or not raw.new:
            raise _stranger(key)
        return self.instance(raw, path, leave=spec.derived)

    def instance(self, raw: Call, path: Path, *, leave: Iterable[str] = ()) -> Any:
        """Make a stand-in whose attributes, filled later, are an object's state.

        Args:
            raw: What would make the object without arguments and set its state.
            path: Where it is.
            leave: Attributes that are left out.
        """
        key = key_of(raw.function)
        if key is None or not raw.new or raw.arguments != () or raw.keywords:
            raise Corrupt("it is made of arguments, which it does not take")
        state = self._attributes(state_of(raw))
        if _VERSION in state and key.startswith("sklearn."):
            self.versions.add(sklearn_versions.require(state.pop(_VERSION)))
        for name in set(leave) & state.keys():
            self._take_bound(state.pop(name))
        made = self.cast.instance(key)

        def fill() -> None:
            for name, value in state.items():
                vars(made)[name] = self.make(value, Path(path, name, f".{name}"))

        self.later(fill)
        return made

    def _attributes(self, state: Any) -> dict[str, Any]:
        """Return attributes by name: of ``__dict__``, or of it and of slots."""
        parts = state if type(state) is tuple and len(state) == 2 else (state,)
        found: dict[str, Any] = {}
        for part in parts:
            found.update({} if part is None else named(part))
        return found

    def _take_bound(self, raw: Any) -> None:
        """Mark a method bound to an object as taken, for an attribute that is left out."""
        if type(raw) is Call and key_of(raw.function) == _BOUND:
            _, name = arguments_of(raw, 2)
            if type(name) is str:
                self._taken.add(id(raw))


def _reconstructed(raw: Call) -> Call:
    """Return what protocols 0 and 1 write for an object as protocol 2 does."""
    kind, base, content = arguments_of(raw, 3)
    if key_of(base) != "builtins:object" or content is not None:
        raise Unsupported("it derives from a built-in type, whose content is not known here.")
    made = Call(kind, (), raw.position, new=True)
    made.states, made.appended = raw.states, raw.appended
    made.items, made.added = raw.items, raw.added
    return made


def _stranger(key: str | None) -> Unsupported:
    what = "something that the file computes" if key is None else key.replace(":", ".")[:200]
    return Unsupported(f"it would call {what}, which is not known as data here.")


def _item(path: Path, position: int) -> Path:
    return Path(path, str(position), f"[{position}]")


def _placed(error: HoldfastError, path: Path) -> HoldfastError:
    """Put the path in front of a message, once."""
    if getattr(error, "placed", False):
        return error
    placed = type(error)(f"{path}: {error.message}", hint=error.hint)
    placed.placed = True  # type: ignore[attr-defined]
    return placed


def _is_numpy(call: Call) -> bool:
    return arrays.is_array(call) or any(is_it(call) for is_it, _ in _NUMPY)


def _bytes(raw: Call) -> bytes | bytearray:
    data = arrays.bytes_of(raw)
    return bytearray(data) if key_of(raw.function) == "builtins:bytearray" else bytes(data)


_NUMPY: Final[tuple[tuple[Callable[[Any], bool], Callable[[Any], Any]], ...]] = (
    (arrays.is_dtype, arrays.dtype_of),
    (arrays.is_scalar, arrays.scalar_of),
    (arrays.is_bytes, _bytes),
)
_MAKERS: Final[dict[type, Callable[[Graph, Any, Path], Any]]] = {
    tuple: Graph._tuple,  # noqa: SLF001 - the table of the class above
    list: lambda graph, raw, path: graph.fill_list([], raw, path),
    Pairs: lambda graph, raw, path: graph.fill_dict({}, raw.items, path),
    Members: Graph._members,  # noqa: SLF001 - same
    Global: Graph._name,  # noqa: SLF001 - same
    arrays.Objects: Graph._made_array,  # noqa: SLF001 - same
    arrays.MaskedObjects: Graph._made_array,  # noqa: SLF001 - same
    Call: Graph._call,  # noqa: SLF001 - same
    Inline: Graph._array,  # noqa: SLF001 - same
    Persistent: Graph._persistent,  # noqa: SLF001 - same
    memoryview: lambda _, raw, __: bytes(raw),
    LongBytearray: lambda _, raw, __: bytearray(raw.data),
}
