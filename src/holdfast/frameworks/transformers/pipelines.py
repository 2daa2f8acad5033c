"""Pipelines of transformers: a task of its own list, its parts, and plain settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from holdfast.codec.registry import TypeSpec
from holdfast.errors import Corrupt, HoldfastError, Unsupported
from holdfast.frameworks.transformers import configs
from holdfast.plugins import import_extra

__all__ = ["PARTS", "SPEC"]

PARTS: Final = (
    "model", "tokenizer", "feature_extractor", "image_processor", "video_processor", "processor",
)  # fmt: skip
# What a pipeline was told when it was made, by the attribute that keeps it.
_TOLD: Final = (
    "_preprocess_params", "_forward_params", "_postprocess_params", "_generate_kwargs",
    "_generation_defaults", "_batch_size", "_num_workers", "binary_output",
)  # fmt: skip


def _class_of(task: object) -> Any:
    """Return the class that transformers' own list names for a task.

    Raises:
        Unsupported: The task is not in it.
    """
    pipelines = import_extra("transformers.pipelines", needed_for="a pipeline")
    known = pipelines.SUPPORTED_TASKS.get(task) if isinstance(task, str) else None
    if known is None:
        raise Unsupported(
            f"The task {task!r:.60} is not one of transformers' own pipelines.",
            hint='holdfast.save({"model": pipe.model, "tokenizer": pipe.tokenizer}, name)',
        )
    named = known["impl"]
    return (
        import_extra(named.rpartition(".")[0], needed_for="a pipeline").__dict__[
            named.rpartition(".")[2]
        ]
        if isinstance(named, str)
        else named
    )


def _encode(pipe: Any) -> dict[str, Any]:
    if _class_of(pipe.task) is not type(pipe):
        raise Unsupported(
            f"{type(pipe).__qualname__} is not transformers' own pipeline for {pipe.task!r:.60}.",
            hint='holdfast.save({"model": pipe.model, "tokenizer": pipe.tokenizer}, name)',
        )
    if getattr(pipe, "assistant_model", None) is not None:
        raise Unsupported(
            "the pipeline has an assistant model beside its own, which is not kept.",
            hint="pipe.assistant_model = None",
        )
    told = {
        name.lstrip("_"): configs.plain(getattr(pipe, name), f"pipe.{name}")
        for name in _TOLD
        if hasattr(pipe, name)
    }
    configs.judge(told, "pipe")
    return {
        "task": pipe.task,
        "told": told,
        **{part: getattr(pipe, part, None) for part in PARTS},
    }


def _build(fields: Mapping[str, Any]) -> Any:
    kind = _class_of(fields["task"])
    told = fields["told"]
    configs.judge(told, "the settings of a pipeline")
    names = {name.lstrip("_"): name for name in _TOLD}
    if not told.keys() <= names.keys() or fields["model"] is None:
        raise Corrupt("a pipeline has settings that are none")
    parts = {part: fields[part] for part in PARTS if fields[part] is not None}
    try:
        pipe = kind(task=fields["task"], device=-1, **parts)
    except HoldfastError:
        raise
    except Exception as error:
        raise Corrupt(
            f"the pipeline cannot be made: {type(error).__name__}: {error!s:.200}"
        ) from error
    for name, value in told.items():
        setattr(pipe, names[name], value)
    return pipe


def _locate() -> type:
    kind: type = import_extra("transformers", needed_for="a pipeline").Pipeline
    return kind


_FIELDS: Final = frozenset({"task", "told", *PARTS})
SPEC: Final = TypeSpec(
    id="transformers.Pipeline",
    locate=_locate,
    classes=(),
    encode=_encode,
    build=_build,
    fields=_FIELDS,
    required=_FIELDS,
)
