"""Configurations of transformers as plain values: judged, and built by transformers' own tables.

A configuration decides what is constructed, and some of its members make transformers import code,
open other models or call a hub. Those are refused by name; a member that the class does not know is
an attribute and nothing else. Source: ``configuration_utils.py`` of
https://github.com/huggingface/transformers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from holdfast.errors import Corrupt, HoldfastError, UnsafeContent, Unsupported
from holdfast.frameworks.torch.tensors import DTYPES
from holdfast.plugins import import_extra

__all__ = [
    "ATTENTIONS",
    "build_config",
    "build_generation",
    "judge",
    "plain",
    "plain_config",
    "plain_generation",
    "walk",
]

# Ways to compute attention that come with torch and transformers; any other text is a repository
# of kernels to download.
ATTENTIONS: Final = frozenset({"eager", "sdpa", "flex_attention", "flash_attention_2"})
_CODE: Final = frozenset({"auto_map", "custom_generate", "custom_pipelines", "trust_remote_code"})
_IMPLEMENTATIONS: Final = frozenset(
    {
        "_attn_implementation", "_attn_implementation_internal", "attn_implementation",
        "_experts_implementation", "_experts_implementation_internal", "experts_implementation",
    }
)  # fmt: skip
_EXPERTS: Final = frozenset({"eager", "grouped_mm", "batched_mm"})
_DTYPE_KEYS: Final = frozenset({"dtype", "torch_dtype"})
# Members that open a second model by its name, from a hub or another package.
_ELSEWHERE: Final = frozenset({"backbone", "use_timm_backbone", "use_pretrained_backbone"})
_TIMM: Final = ("timm_backbone", "timm_wrapper")
# What is said of where a model came from and who wrote it, which is not what it is.
_ORIGIN: Final = ("_name_or_path", "name_or_path", "_commit_hash", "transformers_version")
_DEEPEST: Final = 30
_MOST: Final = 2_000_000
_LARGEST: Final = 10**31  # a tokenizer without a limit says 10**30
# Python builds lists as long as such a number, whatever the weights are.
_COUNTS: Final = ("layer", "depth", "block", "stage", "level", "expert", "hidden_layers", "num_")
_MOST_OF_A_KIND: Final = 100_000


def plain(value: Any, what: str) -> Any:
    """Return JSON-like values as plain ones.

    Raises:
        Unsupported: Something in it is an object.
    """
    return _plain(value, what, 0)


def _plain(value: Any, what: str, depth: int) -> Any:
    if depth > _DEEPEST:
        raise Unsupported(f"{what} is nested too deeply.", hint="print(model.config)")
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping):
        return {
            key if type(key) is int else str(key): _plain(item, f"{what}.{key}", depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value) if isinstance(value, set | frozenset) else value
        return [_plain(item, f"{what}[{i}]", depth + 1) for i, item in enumerate(items)]
    if isinstance(value, str | int | float):  # enumerations are texts or numbers of a class
        kind = next(kind for kind in (str, int, float) if isinstance(value, kind))
        return kind.__str__(value) if kind is str else kind(value)
    raise Unsupported(
        f"{what} holds a {type(value).__name__}, which is no plain value.",
        hint="print(model.config)  # and take that member out",
    )


def plain_config(config: Any) -> dict[str, Any]:
    """Return a model's configuration as plain values, without the place it was loaded from.

    Raises:
        UnsafeContent, Unsupported: It asks for code or for what is not kept.
    """
    told: dict[str, Any] = plain(config.to_dict(), "model.config")
    told = _without_origin(told)
    judge(told, "model.config")
    return told


def _without_origin(told: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_origin(value) if isinstance(value, dict) else value
        for key, value in told.items()
        if key not in _ORIGIN
    }


def judge(told: Any, what: str) -> None:
    """Accept a configuration that only describes.

    Args:
        told: Plain values.
        what: What it is, for the message.

    Raises:
        UnsafeContent: It names code to import or download.
        Unsupported: It names another model to open, or a quantization.
        Corrupt: A number or its form is impossible.
    """
    if not isinstance(told, dict):
        raise Corrupt(f"{what} is not a table of members")
    for path, key, value in walk(what, told):
        if key in _CODE and value:
            raise _code(path, value)
        if key in _IMPLEMENTATIONS and not _known_implementation(key, value):
            raise _code(path, value)
        if key in ("compression_config", "quantization_config") and value:
            raise _quantized(path, value)
        if (key in _ELSEWHERE and value) or (key == "model_type" and value in _TIMM):
            raise Unsupported(
                f"{path} is {value!r:.60}: the architecture is another package's, whose weights "
                "and code it would fetch by name.",
                hint="holdfast.save(model.state_dict(), name)  # keeps the weights",
            )
        if key in _DTYPE_KEYS and not _known_dtype(value):
            raise Corrupt(f"{path} is {value!r:.60}, which is no dtype")
        if type(value) in (int, float):
            _judge_number(path, str(key), value)


def walk(what: str, told: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield path, key and value of every member at any depth; recursion is bounded."""
    todo: list[tuple[str, Any, int]] = [(what, told, 0)]
    count = 0
    while todo:
        path, value, depth = todo.pop()
        if depth > _DEEPEST:
            raise Corrupt(f"{what} is nested too deeply")
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in pairs:
            count += 1
            if count > _MOST:
                raise Corrupt(f"{what} has more members than any that is kept")
            yield f"{path}.{key!s:.60}", key, item
            if isinstance(item, dict | list):
                todo.append((f"{path}.{key!s:.60}", item, depth + 1))
            elif item is not None and type(item) not in (bool, int, float, str):
                raise Corrupt(f"{path}.{key!s:.60} is a {type(item).__name__}")


def _known_implementation(key: str, value: Any) -> bool:
    known = _EXPERTS if "experts" in key else ATTENTIONS
    values = list(value.values()) if isinstance(value, dict) else [value]
    return all(item is None or item in known for item in values if not isinstance(item, dict))


def _known_dtype(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_known_dtype(item) for item in value.values())
    return value is None or value == "auto" or value in DTYPES


def _judge_number(path: str, key: str, value: float) -> None:
    if type(value) is int and abs(value) > _LARGEST:
        raise Corrupt(f"{path} is an impossible number")
    counted = any(word in key for word in _COUNTS) and "id" not in key.split("_")
    if counted and math.isfinite(value) and abs(value) > _MOST_OF_A_KIND:
        raise Corrupt(f"{path} is {value!r:.30}, which no model has")


def _code(path: str, value: Any) -> UnsafeContent:
    return UnsafeContent(
        f"UNSAFE  {path} names code of the model's own ({value!r:.80}), which would be imported or "
        "downloaded and run. Nothing was run.",
        hint="# keep the weights: holdfast.save(model.state_dict(), name)\n"
        "# a class of transformers itself: del model.config.auto_map",
    )


def _quantized(path: str, value: Any) -> Unsupported:
    method = value.get("quant_method") if isinstance(value, dict) else None
    return Unsupported(
        f"{path}: the weights are quantized by {method or 'another package'!s:.40}, which packs "
        "them in its own way; they are not kept.",
        hint="model = AutoModelForCausalLM.from_pretrained(base)  # without quantization_config;\n"
        "# or model.dequantize(), where the method can",
    )


def build_config(told: Any) -> Any:
    """Make the configuration of a judged table of members.

    Raises:
        UnsafeContent, Unsupported, Corrupt: See ``judge``; or transformers refuses it.
    """
    judge(told, "the model's configuration")
    auto = import_extra(
        "transformers.models.auto.configuration_auto", needed_for="a transformers model"
    )
    kind = told.get("model_type")
    if not isinstance(kind, str) or kind not in auto.CONFIG_MAPPING_NAMES:
        raise Unsupported(
            f"The architecture {kind!r:.60} is not one of this transformers release.",
            hint="python -m pip install --upgrade transformers",
        )
    return _asked(lambda: auto.CONFIG_MAPPING[kind].from_dict(dict(told)), "configuration")


def plain_generation(generation: Any) -> dict[str, Any] | None:
    """Return a generation configuration as plain values; None where there is none."""
    if generation is None:
        return None
    told: dict[str, Any] = plain(generation.to_dict(), "model.generation_config")
    told = {key: value for key, value in told.items() if value is not None and key not in _ORIGIN}
    judge(told, "model.generation_config")
    return told


def build_generation(told: Any) -> Any:
    """Make a generation configuration of plain values."""
    judge(told, "the generation configuration")
    kind = import_extra("transformers", needed_for="a transformers model").GenerationConfig
    return _asked(lambda: kind.from_dict(dict(told)), "generation configuration")


def _asked(make: Any, what: str) -> Any:
    try:
        return make()
    except HoldfastError:
        raise
    except Exception as error:
        raise Corrupt(
            f"transformers refuses the {what}: {type(error).__name__}: {error!s:.200}"
        ) from error
