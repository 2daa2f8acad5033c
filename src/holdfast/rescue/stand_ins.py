"""Stand-ins: objects that have a foreign object's class name and attributes, and nothing else.

The encoders of the codec and of the adapters take an object apart by its attributes. A stand-in
offers them what they ask for, out of a file's description of the object, so that the object's own
class is neither imported nor called before everything was encoded, audited and judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from holdfast.codec.registry import Registry, TypeSpec

__all__ = ["Cast", "StandIn"]


class StandIn:
    """Stands for an instance of the class whose module and name its own class bears."""


class _Stateful(StandIn):
    """Answers ``__getstate__`` with the state that a file holds."""

    def __getstate__(self) -> Any:
        return vars(self)["state"]


class _Called(StandIn):
    """Answers ``__reduce__`` with the arguments that it would be made with."""

    def __reduce__(self) -> Any:
        return vars(self).get("made_by", type(self)), vars(self)["arguments"]


class _Sparse(StandIn):
    """A sparse matrix of scipy, whose shape is kept under another name."""

    @property
    def shape(self) -> Any:
        return vars(self)["_shape"]

    def keys(self) -> Any:
        return vars(self)["_dict"].keys()

    def values(self) -> Any:
        return vars(self)["_dict"].values()


class _Spline(StandIn):
    """An interpolator of scipy, whose numbers newer releases keep under private names."""

    def __getattr__(self, name: str) -> Any:
        try:
            return vars(self)[f"_{name}"]
        except KeyError:
            raise AttributeError(name) from None


_DISTANCES: Final = ("Distance", "Distance32", "Distance64")
_TREES: Final = frozenset({"Tree", "KDTree", "KDTree32", "BallTree", "BallTree32"})
_BASES: Final[tuple[tuple[str, type], ...]] = (
    ("sklearn._loss._loss:", _Called),
    ("_loss:", _Called),
    ("sklearn.linear_model._sgd_fast:", _Called),
    ("scipy.sparse.", _Sparse),
    ("scipy.interpolate.", _Spline),
)


def _base(key: str) -> type:
    """Return the base of a stand-in: what encoders ask of its class beside attributes."""
    name = key.partition(":")[2]
    if key.startswith("sklearn.") and (name in _TREES or name.endswith(_DISTANCES)):
        return _Stateful
    return next((base for start, base in _BASES if key.startswith(start)), StandIn)


class Cast:
    """Makes stand-ins, and the registry that knows them.

    Attributes:
        registry: For ``codec.encode``: what the real one knows, with stand-ins in the place of
            the classes that they stand for.
        used: Whether there is any stand-in.
    """

    def __init__(self, registry: Registry) -> None:
        self._real = registry
        self.used = False
        self.registry = Registry(registry.by_id, dict(registry.by_class))
        self._classes: dict[str, type] = {}

    def spec(self, key: str) -> TypeSpec | None:
        """Return how a class is kept, by ``module:qualname``; asks installed packages too."""
        spec = self._real.by_class.get(key)
        if spec is None:
            self._real.grow()
            spec = self._real.by_class.get(key)
        return spec

    def instance(self, key: str) -> Any:
        """Make a stand-in without attributes for an instance of a class.

        Args:
            key: ``module:qualname``; the encoder of the type it belongs to, if any, takes it apart.
        """
        return self._make(key, self._real.by_class.get(key), None)

    def fields(self, type_id: str, fields: Mapping[str, Any]) -> Any:
        """Make a stand-in that is encoded as these fields of a registered type.

        Args:
            type_id: The type.
            fields: The very mapping that is encoded later; values may still be filled until then.
        """
        spec = self._real.by_id[type_id]
        made = self._make(spec.classes[0], spec, _fields_of)
        vars(made)["fields"] = fields
        return made

    def _make(
        self, key: str, spec: TypeSpec | None, encode: Callable[[Any], Mapping[str, Any]] | None
    ) -> Any:
        self.used = True
        kind = self._classes.get(key)
        if kind is None:
            kind = self._classes[key] = _class(key)
            if spec is not None:
                own = replace(spec, locate=lambda: kind, accepts=None)
                self.registry.by_class[key] = own if encode is None else replace(own, encode=encode)
        return kind()


def _class(key: str) -> type:
    module, _, name = key.partition(":")
    attributes = {"__module__": module, "__qualname__": name}
    return type(name.rpartition(".")[2], (_base(key),), attributes)


def _fields_of(stand_in: Any) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = vars(stand_in)["fields"]
    return fields
