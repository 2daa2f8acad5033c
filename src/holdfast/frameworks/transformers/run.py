"""Calling what is kept here as a user would for inference, and inputs for it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from holdfast.errors import UsageError
from holdfast.frameworks.torch import run as torch_run
from holdfast.frameworks.transformers.types import PACKAGES, items_of, kind_of
from holdfast.plugins import import_extra

__all__ = ["PER_ROW", "methods", "predict", "steady", "synthetic"]

_TEXTS: Final = (
    "A short sentence about the weather in Oslo.",
    "The old trams of Lisbon climb seven hills, and nobody hurries.",
    "Two engineers from Lima wrote 12 letters in May 2021!",
    "Is this good? It is not bad at all.",
)
# Kinds of inputs that are texts, by the task of a pipeline.
_TEXT_TASKS: Final = frozenset(
    {
        "feature-extraction", "fill-mask", "ner", "sentiment-analysis", "summarization",
        "text-classification", "text-generation", "text2text-generation", "token-classification",
        "translation",
    }
)  # fmt: skip
_CALLED: Final = ("transformers.Model", "peft.Model")
# What answers texts by itself, to its method.
_WHOLE: Final = {"transformers.Pipeline": "__call__", "sentence_transformers.Model": "encode"}
# Numbers of an output that a golden set keeps of each row, evenly spaced: a language model
# answers with one for every word of its vocabulary at every place.
PER_ROW: Final = 4096
_WORDS: Final = 8
_NEW_TOKENS: Final = 8


def parts_of(model: Any) -> tuple[Any | None, Any | None]:
    """Return the one model in plain containers, and what turns texts into its inputs."""
    found: dict[str, list[Any]] = {}
    for item in items_of(model):
        spec = kind_of(item)
        if spec is not None:
            found.setdefault(spec.id, []).append(item)
    models = [item for name in _CALLED for item in found.get(name, [])]
    tokenizers = found.get("transformers.Tokenizer", [])
    return (
        models[0] if len(models) == 1 else None,
        tokenizers[0] if len(tokenizers) == 1 else None,
    )


def methods(model: Any) -> tuple[str, ...]:
    """Return what can be called, the one to replay first; ``predict`` answers in full."""
    spec = kind_of(model)
    if spec is not None and spec.id in _WHOLE:
        return (_WHOLE[spec.id], "predict")
    found, _ = parts_of(model)
    return ("forward", "predict") if found is not None else ()


def predict(model: Any, method: str, inputs: Any) -> Any:
    """Answer inputs.

    Args:
        model: What ``methods`` was asked about.
        method: One of its answers. ``predict`` gives all of an answer; the others what a golden
            set keeps of it.
        inputs: For a forward pass: tensors by argument, or texts where a tokenizer is beside the
            model. For a pipeline: what it takes.

    Raises:
        UsageError: There is no such method.
    """
    known = methods(model)
    if method not in known:
        raise UsageError(f"a {type(model).__name__} has no output method {method!r} here.")
    answers = _answered(model, known[0], inputs)
    return answers if method == "predict" else torch_run.sampled(answers, PER_ROW)


def _answered(model: Any, method: str, inputs: Any) -> Any:
    if method == "__call__":
        return _piped(model, inputs)
    if method == "encode":
        return model.encode(list(inputs), show_progress_bar=False)
    found, tokenizer = parts_of(model)
    if tokenizer is not None and _is_text(inputs):
        inputs = dict(tokenizer(list(inputs), padding=True, truncation=True, return_tensors="pt"))
    return _answers(torch_run.call(found, inputs))


def _is_text(inputs: Any) -> bool:
    return isinstance(inputs, list | tuple) and all(isinstance(item, str) for item in inputs)


def _answers(outputs: Any) -> Any:
    """Leave out what is state for a next call, which is kept in objects of transformers."""
    if isinstance(outputs, Mapping):
        return {key: value for key, value in outputs.items() if not _is_state(value)}
    return outputs


def _is_state(value: Any) -> bool:
    items = value if isinstance(value, list | tuple) else (value,)
    return any(type(item).__module__.partition(".")[0] in PACKAGES for item in items)


def _piped(pipe: Any, inputs: Any) -> Any:
    rows = list(inputs) if isinstance(inputs, list | tuple) else inputs
    options: dict[str, Any] = {}
    if getattr(pipe, "_pipeline_calls_generate", False) and pipe.model.can_generate():
        options = {"max_new_tokens": _NEW_TOKENS, "do_sample": False}
    import torch

    with torch.no_grad():
        return _settled(pipe(rows, **options))


def _settled(value: Any) -> Any:
    """Turn numbers in a pipeline's answer into tensors, which are compared with a tolerance."""
    import torch

    if isinstance(value, float):
        return torch.tensor(value, dtype=torch.float32)
    if isinstance(value, Mapping):
        return {key: _settled(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        if _shape(value) is not None:
            return torch.tensor(value, dtype=torch.float32)
        return type(value)(map(_settled, value)) if type(value) in (list, tuple) else value
    if hasattr(value, "item") and hasattr(value, "dtype") and not getattr(value, "shape", None):
        return _settled(value.item())
    return value


def _shape(value: Any) -> tuple[int, ...] | None:
    """Return the shape of a regular nest of lists of floats; None of anything else."""
    if type(value) is float:
        return ()
    if type(value) is not list or not value:
        return None
    inner = {_shape(item) for item in value}
    one = inner.pop()
    return None if inner or one is None else (len(value), *one)


def synthetic(model: Any, rows: int, seed: int) -> Any | None:
    """Make inputs: sentences for pipelines and where a tokenizer is, else by the first layer."""
    if not methods(model):
        return None
    sentences = [_TEXTS[row % len(_TEXTS)] for row in range(min(rows, len(_TEXTS)))]
    method = methods(model)[0]
    if method == "encode":
        return sentences
    if method == "__call__":
        mask = getattr(model.tokenizer, "mask_token", None)
        if model.task == "fill-mask":
            sentences = [f"The weather in {mask} is good." for _ in sentences[:1]]
        return sentences if model.task.partition("_")[0] in _TEXT_TASKS else None
    found, tokenizer = parts_of(model)
    if tokenizer is not None and tokenizer.pad_token is not None and _reads_text(found):
        return sentences
    return _tensors(found, min(rows, _WORDS), seed)


def _reads_text(model: Any) -> bool:
    return bool(model.main_input_name == "input_ids")


def _tensors(model: Any, rows: int, seed: int) -> dict[str, Any] | None:
    import torch

    generator = torch.Generator().manual_seed(seed)
    config = model.config
    name = model.main_input_name
    if name == "input_ids":
        words = getattr(config, "vocab_size", None)
        if type(words) is not int or words < 1:
            return None
        ids = torch.randint(words, (rows, _WORDS), generator=generator)
        made = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if getattr(config, "is_encoder_decoder", False):
            made["decoder_input_ids"] = ids.flip(1)
        return made
    size = getattr(config, "image_size", None)
    if name == "pixel_values" and type(size) is int and 0 < size <= 1024:
        shape = (min(rows, 2), getattr(config, "num_channels", 3), size, size)
        return {name: torch.randn(shape, generator=generator)}
    return None


@contextmanager
def steady(model: Any) -> Iterator[None]:
    """Seed; restore generators, modules, and what a call leaves in tokenizers and pipelines."""
    import_extra("transformers", needed_for="calling the model")
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        spec = kind_of(model)
        items = [model] if spec is not None else list(items_of(model))
        for item in items:
            inner = _modules_of(item)
            stack.enter_context(torch_run.steady(inner))
            for part in _tokenizers_of(item):
                stack.enter_context(_same_settings(part))
            if hasattr(item, "call_count"):
                stack.enter_context(_same_count(item))
        yield


def _modules_of(item: Any) -> Any:
    return item if hasattr(item, "named_modules") else getattr(item, "model", None)


def _tokenizers_of(item: Any) -> Iterator[Any]:
    for part in (item, getattr(item, "tokenizer", None)):
        if getattr(part, "is_fast", False) and hasattr(part, "backend_tokenizer"):
            yield part


@contextmanager
def _same_settings(tokenizer: Any) -> Iterator[None]:
    """Give the compiled tokenizer back the padding and truncation that it had."""
    compiled = tokenizer.backend_tokenizer
    truncation, padding = copy.deepcopy((compiled.truncation, compiled.padding))
    try:
        yield
    finally:
        if truncation is None:
            compiled.no_truncation()
        else:
            compiled.enable_truncation(**truncation)
        if padding is None:
            compiled.no_padding()
        else:
            compiled.enable_padding(**padding)


@contextmanager
def _same_count(pipe: Any) -> Iterator[None]:
    before = pipe.call_count
    try:
        yield
    finally:
        pipe.call_count = before
