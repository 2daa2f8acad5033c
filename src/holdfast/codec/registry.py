"""The closed registry: type ids to what encodes, checks and builds them.

A file holds ids such as ``sklearn.StandardScaler``. Only this table, which is data in our
repository (or an explicit ``holdfast.register``, of the caller or of an installed package's entry
point), says which class an id means.
Nothing is ever imported or looked up by a string from a file.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from holdfast.errors import Unsupported

__all__ = ["OWN_CLASS", "UNUSABLE", "Further", "Registry", "TypeSpec"]

# What to write instead of a function.
OWN_CLASS: Final = (
    "from steps import Step  # your module; Step.__call__ does what the function did\n"
    "holdfast.register(Step)  # before saving, and before loading; keep Step() in its place"
)

# Begins what is said of installed packages that might have had the missing class.
UNUSABLE: Final = "An installed package that registers classes cannot be used:"


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeSpec:
    """How one type is kept.

    Attributes:
        id: The name in files; never depends on where the class lives.
        locate: Imports and returns the class; called only at build and to confirm a match.
        classes: ``module:qualname`` of every class this spec encodes, over all supported
            versions of its library; matching needs no import.
        encode: Object to named field values, which are encoded in turn.
        check: Judges the audited fields before anything is built and raises ``Corrupt``; gets
            the field nodes' *summaries* (see ``codec.audit``), imports nothing.
        migrate: Makes of the fields that another release of the library had those of the
            installed one, before ``build`` or the fill; all that hangs below is complete then.
        lacking: Attributes with the values that an object gets where its fields lack them.
        build: Fields to object. None: the object is made by ``cls.__new__`` and its ``__dict__``
            filled, which is what allows reference cycles through it.
        fields: Names allowed in a file; None allows any identifier.
        required: Names that must be there.
        transparent: Fields that do not appear in paths and tensor names.
        derived: Attributes that are left out, since they follow from the rest or mean nothing in
            another process.
        attributes: The object is its ``__dict__``: whatever the encoder makes of it, a round trip
            gives every attribute back.
        state: What a round trip must give back of an object that has no attributes; default: the
            encoded fields, which may take longer to make.
        identity: Two objects with the same key are one object in the file; default ``id``.
        accepts: Says whether an object of these classes is meant, in place of its type being
            the located one: for functions, whose types say nothing. One that is not is refused
            like any stranger.
    """

    id: str
    locate: Callable[[], type]
    classes: tuple[str, ...]
    encode: Callable[[Any], Mapping[str, Any]]
    check: Callable[[Mapping[str, Any]], None] | None = None
    migrate: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    lacking: Callable[[], Mapping[str, Any]] | None = None
    build: Callable[[Mapping[str, Any]], Any] | None = None
    fields: frozenset[str] | None = None
    required: frozenset[str] = frozenset()
    transparent: frozenset[str] = frozenset()
    derived: frozenset[str] = frozenset()
    attributes: bool = False
    state: Callable[[Any], Mapping[str, Any]] | None = None
    identity: Callable[[Any], Hashable] = builtins.id
    accepts: Callable[[Any], bool] | None = None


class Further(NamedTuple):
    """What is known of types beyond a registry.

    Attributes:
        specs: Types that installed packages offer.
        broken: What is wrong with those that could not be asked, each naming its distribution.
    """

    specs: Collection[TypeSpec] = ()
    broken: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Registry:
    """Type specs by id and by class name.

    Attributes:
        by_id: For reading.
        by_class: For writing.
        further: Asks installed packages for their types.
    """

    by_id: dict[str, TypeSpec]
    by_class: dict[str, TypeSpec] = field(repr=False)
    further: Callable[[], Further] = field(default=Further, repr=False)

    @classmethod
    def of(cls, specs: Iterable[TypeSpec]) -> Registry:
        """Build a registry; an id or class named twice is a programming error."""
        by_id: dict[str, TypeSpec] = {}
        by_class: dict[str, TypeSpec] = {}
        for spec in specs:
            if spec.id in by_id or any(name in by_class for name in spec.classes):
                raise ValueError(f"type {spec.id!r} is registered twice")
            by_id[spec.id] = spec
            by_class.update(dict.fromkeys(spec.classes, spec))
        return cls(by_id, by_class)

    def grow(self) -> tuple[str, ...]:
        """Learn the types that installed packages offer; for when one is not known otherwise.

        What is known already stays as it is.

        Returns:
            What is wrong with packages that could not be asked.
        """
        further = self.further()
        for spec in further.specs:
            self.by_id.setdefault(spec.id, spec)
            for name in spec.classes:
                self.by_class.setdefault(name, spec)
        return further.broken

    def spec_for(self, obj: object) -> TypeSpec | None:
        """Return the spec of exactly ``type(obj)``; subclasses are other types."""
        kind = type(obj)
        spec = self.by_class.get(f"{kind.__module__}:{kind.__qualname__}")
        if spec is not None and spec.accepts is not None:
            return spec if spec.accepts(obj) else None
        if spec is not None and spec.locate() is not kind:
            raise Unsupported(
                f"the class {kind.__module__}.{kind.__qualname__} is not the one that "
                f"{spec.id!r} stands for; it was probably redefined."
            )
        return spec
