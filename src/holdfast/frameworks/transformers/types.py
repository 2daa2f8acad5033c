"""Which of the types here keeps a live object; classes are told by their bases, never by a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from holdfast.codec.registry import Registry, TypeSpec
from holdfast.frameworks.transformers import (
    lora,
    models,
    pipelines,
    processors,
    sentences,
    tokenizers,
)

__all__ = ["PACKAGES", "SPECS", "Extended", "is_ours", "items_of", "kind_of"]

PACKAGES: Final = ("transformers", "peft", "sentence_transformers")
# A base's name, in the order asked, to what keeps its subclasses.
_KEPT: Final[tuple[tuple[str, TypeSpec], ...]] = (
    ("PeftModel", lora.SPEC),
    ("PeftMixedModel", lora.SPEC),
    ("PreTrainedModel", models.SPEC),
    ("PreTrainedTokenizerBase", tokenizers.SPEC),
    ("ProcessorMixin", processors.PROCESSOR_SPEC),
    ("FeatureExtractionMixin", processors.EXTRACTOR_SPEC),
    ("ImageProcessingMixin", processors.EXTRACTOR_SPEC),
    ("Pipeline", pipelines.SPEC),
    ("BaseModel", sentences.SPEC),
    ("Module", sentences.MODULE_SPEC),
)
SPECS: Final = (
    models.SPEC,
    tokenizers.SPEC,
    processors.EXTRACTOR_SPEC,
    processors.PROCESSOR_SPEC,
    pipelines.SPEC,
    lora.SPEC,
    sentences.SPEC,
    sentences.MODULE_SPEC,
)


def kind_of(item: object) -> TypeSpec | None:
    """Return what keeps an object of these packages; None for anything else."""
    kind = type(item)
    if kind is lora.Base:
        return lora.BASE_SPEC
    if kind.__module__.partition(".")[0] not in PACKAGES:
        return None
    bases = {
        base.__name__ for base in kind.__mro__ if base.__module__.partition(".")[0] in PACKAGES
    }
    return next((spec for name, spec in _KEPT if name in bases), None)


def is_ours(item: object) -> bool:
    """Say whether an object is one of those that are kept here."""
    return kind_of(item) is not None


def items_of(model: object) -> Iterator[object]:
    """Walk plain containers; yields what is in them, each container once."""
    todo, seen = [model], set()
    while todo:
        item = todo.pop()
        if not isinstance(item, dict | list | tuple):
            yield item
        elif id(item) not in seen:
            seen.add(id(item))
            todo.extend(item.values() if isinstance(item, dict) else item)


class Extended(Registry):
    """A registry that also knows the live objects of these packages, of whatever class."""

    __slots__ = ()

    @classmethod
    def over(cls, registry: Registry) -> Extended:
        """Return a registry with everything of another."""
        return cls(registry.by_id, registry.by_class, registry.further)

    def spec_for(self, obj: object) -> TypeSpec | None:
        """Return the spec of an object's type."""
        return kind_of(obj) or Registry.spec_for(self, obj)


def model_of(item: Any) -> Any:
    """Return the module in an object that can be called, moved and restored; None without."""
    return item if hasattr(item, "named_modules") else getattr(item, "model", None)
