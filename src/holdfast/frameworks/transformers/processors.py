"""What prepares images, sound and text together: settings as plain values, by closed tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from holdfast.codec.registry import TypeSpec
from holdfast.errors import Corrupt, EnvironmentMismatch, HoldfastError, Unsupported
from holdfast.frameworks.transformers import configs
from holdfast.frameworks.transformers.tokenizers import refuse_templates
from holdfast.plugins import import_extra

__all__ = ["EXTRACTOR_SPEC", "PROCESSOR_SPEC", "needs_more", "processor_class"]

# Modules with transformers' tables of names, and the table's name in each.
_TABLES: Final = {
    "image_processing_auto": "IMAGE_PROCESSOR_MAPPING_NAMES",
    "feature_extraction_auto": "FEATURE_EXTRACTOR_MAPPING_NAMES",
    "video_processing_auto": "VIDEO_PROCESSOR_MAPPING_NAMES",
    "processing_auto": "PROCESSOR_MAPPING_NAMES",
}
_FINDERS: Final = {
    "image_processing_auto": "get_image_processor_class_from_name",
    "feature_extraction_auto": "feature_extractor_class_from_name",
    "video_processing_auto": "video_processor_class_from_name",
    "processing_auto": "processor_class_from_name",
}
# Members that say what class it is or where it was, and those computed from the others.
_LEFT_OUT: Final = frozenset(
    {
        "_auto_class", "_processor_class", "feature_extractor_type", "image_processor_type",
        "mel_filters", "name_or_path", "processor_class", "video_processor_type", "window",
    }
)  # fmt: skip


def processor_class(name: object) -> Any:
    """Return the class of that name in one of transformers' own tables.

    Raises:
        Unsupported: It is in none.
    """
    if isinstance(name, str):
        for module, table in _TABLES.items():
            auto = import_extra(f"transformers.models.auto.{module}", needed_for="a processor")
            if name in set(_names(getattr(auto, table))):
                found = getattr(auto, _FINDERS[module])(name)
                if found is not None:
                    return found
    raise Unsupported(
        f"The processor class {name!r:.80} is not one that transformers' own tables name.",
        hint="# save the model without it",
    )


def _names(table: Mapping[str, Any]) -> Iterator[str]:
    for value in table.values():
        several = value.values() if isinstance(value, dict) else value
        for name in several if isinstance(value, dict | list | tuple) else (value,):
            if isinstance(name, str):
                yield name


def _own_class(item: Any) -> str:
    name = type(item).__name__
    if processor_class(name) is not type(item):
        raise Unsupported(f"{type(item).__qualname__} is not transformers' own class")
    return name


def _encode_extractor(item: Any) -> dict[str, Any]:
    name = _own_class(item)
    told = {key: value for key, value in sorted(item.to_dict().items()) if key not in _LEFT_OUT}
    settings = configs.plain(told, name)
    configs.judge(settings, name)
    return {"class": name, "settings": settings}


def _build_extractor(fields: Mapping[str, Any]) -> Any:
    kind = processor_class(fields["class"])
    settings = fields["settings"]
    configs.judge(settings, "the settings of a processor")
    return _made(lambda: kind.from_dict(dict(settings)))


def _made(make: Any) -> Any:
    try:
        return make()
    except HoldfastError:
        raise
    except ImportError as error:
        raise needs_more(error) from error
    except Exception as error:
        raise Corrupt(
            f"a processor cannot be made: {type(error).__name__}: {error!s:.200}"
        ) from error


def needs_more(error: ImportError) -> EnvironmentMismatch:
    """Word what transformers says of a package that a class of its own needs."""
    told = " ".join(str(error).split())
    return EnvironmentMismatch(
        f"transformers needs a further package here: {told:.200}",
        hint="python -m pip install pillow torchvision  # or the package it names",
    )


def _encode_processor(item: Any) -> dict[str, Any]:
    name = _own_class(item)
    parts = {part: getattr(item, part) for part in type(item).get_attributes()}
    told = {k: v for k, v in sorted(item.to_dict().items()) if k not in {*parts, *_LEFT_OUT}}
    settings = configs.plain(told, name)
    configs.judge(settings, name)
    template = configs.plain(getattr(item, "chat_template", None), f"{name}.chat_template")
    refuse_templates(template)
    return {"class": name, "settings": settings, "template": template, "parts": parts}


def _build_processor(fields: Mapping[str, Any]) -> Any:
    kind = processor_class(fields["class"])
    settings, parts, template = fields["settings"], fields["parts"], fields["template"]
    configs.judge(settings, "the settings of a processor")
    refuse_templates(template)
    if type(parts) is not dict or parts.keys() != set(kind.get_attributes()):
        raise Corrupt("a processor has other parts than its class")
    more = {} if template is None else {"chat_template": template}
    return _made(lambda: kind(**parts, **settings, **more))


def _base(module: str, name: str) -> type:
    kind: type = getattr(import_extra(f"transformers.{module}", needed_for="a processor"), name)
    return kind


EXTRACTOR_SPEC: Final = TypeSpec(
    id="transformers.Extractor",
    locate=lambda: _base("feature_extraction_utils", "FeatureExtractionMixin"),
    classes=(),
    encode=_encode_extractor,
    build=_build_extractor,
    fields=frozenset({"class", "settings"}),
    required=frozenset({"class", "settings"}),
)
_PROCESSOR_FIELDS: Final = frozenset({"class", "settings", "template", "parts"})
PROCESSOR_SPEC: Final = TypeSpec(
    id="transformers.Processor",
    locate=lambda: _base("processing_utils", "ProcessorMixin"),
    classes=(),
    encode=_encode_processor,
    build=_build_processor,
    fields=_PROCESSOR_FIELDS,
    required=_PROCESSOR_FIELDS,
    transparent=frozenset({"parts"}),
)
