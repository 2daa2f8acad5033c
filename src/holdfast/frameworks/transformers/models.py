"""Models of transformers: configuration, generation settings, flags, and every tensor by name."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, Final

from holdfast.codec.registry import TypeSpec
from holdfast.errors import Corrupt, Unsupported
from holdfast.frameworks.transformers import building, configs
from holdfast.plugins import import_extra

__all__ = [
    "SPEC",
    "attention_of",
    "changes",
    "encode_model",
    "flags_of",
    "refuse_changed",
    "restore_flags",
    "tables_of",
]

# Attributes of a module that training or loading changes and that are not settings of it.
_PASSING: Final = frozenset(
    {"active_adapter", "gradient_checkpointing", "loss_type", "name_or_path", "training"}
)


def encode_model(model: Any) -> dict[str, Any]:
    """Return the fields that a model is kept by.

    Raises:
        UnsafeContent: Its class or configuration is code of the model's own.
        Unsupported: It is not what its class makes of its configuration.
    """
    if getattr(model, "is_quantized", False) or getattr(model, "hf_quantizer", None) is not None:
        quantized = getattr(model.config, "quantization_config", None)
        configs.judge({"quantization_config": _quantization(quantized)}, "model.config")
    told = configs.plain_config(model.config)
    tables = tables_of(model)
    refuse_changed(model, tables)
    return {
        "class": type(model).__name__,
        "config": told,
        "generation": configs.plain_generation(getattr(model, "generation_config", None)),
        "attention": attention_of(model.config),
        **flags_of(model),
        **tables,
    }


def _quantization(quantized: Any) -> dict[str, Any]:
    method = getattr(quantized, "quant_method", None) or "another package"
    return {"quant_method": str(getattr(method, "value", method))}


def attention_of(config: Any) -> str | None:
    """Return how a model computes attention; raises ``Unsupported`` for a repository's kernel."""
    found = config._attn_implementation  # noqa: SLF001 - to_dict() leaves it out
    if found is not None and found not in configs.ATTENTIONS:
        raise Unsupported(
            f"the attention is computed by {found!r:.60}, a kernel of a repository.",
            hint='model.set_attn_implementation("sdpa")',
        )
    return None if found is None else str(found)


def tables_of(model: Any) -> dict[str, dict[str, Any]]:
    """Return parameters and buffers by name; a tied one stands under each of its names."""
    return {
        "parameters": dict(model.named_parameters(remove_duplicate=False)),
        "buffers": dict(model.named_buffers(remove_duplicate=False)),
    }


def flags_of(model: Any) -> dict[str, Any]:
    """Return whether a model is training, and which modules differ from it in that."""
    unlike = [name for name, part in model.named_modules() if part.training != model.training]
    return {"training": bool(model.training), "unlike": unlike}


def restore_flags(model: Any, fields: Mapping[str, Any]) -> None:
    """Set the training flags of all modules; raises ``Corrupt``."""
    unlike, training = fields["unlike"], fields["training"]
    if type(unlike) is not list or type(training) is not bool:
        raise Corrupt("the training flags of a model have a wrong type")
    others = {name for name in unlike if isinstance(name, str)}
    for name, part in model.named_modules():
        part.training = training != (name in others)


def refuse_changed(model: Any, tables: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse a model with other modules or settings than its configuration says.

    Raises:
        Unsupported: The message names the first.
    """
    kind = building.class_of(model.config, type(model).__name__)
    if kind is not type(model):
        raise Unsupported(
            f"{type(model).__module__}.{type(model).__qualname__} is not one of the classes that "
            "transformers' own tables name for its configuration.",
            hint="holdfast.save(model.state_dict(), name)  # keeps the weights",
        )
    tensors = {**tables["parameters"], **tables["buffers"]}
    try:
        made = building.skeleton(kind, copy.deepcopy(model.config), tensors)
    except Corrupt:
        made = building.skeleton(kind, copy.deepcopy(model.config), tensors, device="cpu")
    found = next(changes(model, made), None)
    if found is not None:
        raise Unsupported(
            f"the model is not what {kind.__name__} makes of its configuration: {found}.",
            hint="holdfast.save(model.state_dict(), name)  # keeps the weights; load them with\n"
            "# into= your changed model",
        )


def changes(model: Any, made: Any) -> Iterator[str]:
    """Yield in what modules, settings and shapes one model is not as another."""
    ours, theirs = dict(model.named_modules()), dict(made.named_modules())
    for name in sorted(ours.keys() ^ theirs.keys()):
        yield f"{name!r} is {'more' if name in ours else 'missing'}"
    for name in ours.keys() & theirs.keys():
        one, other = ours[name], theirs[name]
        if type(one) is not type(other):
            yield f"{name!r} is a {type(one).__qualname__}, not a {type(other).__qualname__}"
        for key, value in vars(other).items():
            if key.startswith("_") or key in _PASSING or type(value) not in (bool, int, float, str):
                continue
            if vars(one).get(key, value) != value:
                yield f"{name or 'model'}.{key} is {vars(one)[key]!r:.40}, not {value!r:.40}"
    shapes = [
        {name: tuple(t.shape) for table in tables_of(m).values() for name, t in table.items()}
        for m in (model, made)
    ]
    for name in sorted(shapes[0].keys() | shapes[1].keys()):
        if shapes[0].get(name) != shapes[1].get(name):
            yield f"{name} has the shape {shapes[0].get(name)}, not {shapes[1].get(name)}"


def _build(fields: Mapping[str, Any]) -> Any:
    config = configs.build_config(fields["config"])
    attention = fields["attention"]
    if attention is not None:
        if attention not in configs.ATTENTIONS:
            raise Corrupt(f"the attention {attention!r:.60} is not one that comes with torch")
        config._attn_implementation = attention  # noqa: SLF001 - the only way before construction
    name = fields["class"]
    kind = building.class_of(config, name) if isinstance(name, str) else None
    if kind is None:
        raise Unsupported(
            f"transformers has no class {name!r:.80} for {type(config).__name__} in its tables.",
            hint="python -m pip install --upgrade transformers",
        )
    parameters, buffers = fields["parameters"], fields["buffers"]
    if type(parameters) is not dict or type(buffers) is not dict:
        raise Corrupt("the tensors of a model are not tables of names")
    model = building.with_tensors(kind, config, {**buffers, **parameters})
    if fields["generation"] is not None:
        model.generation_config = configs.build_generation(fields["generation"])
    restore_flags(model, fields)
    return model


def _locate() -> type:
    kind: type = import_extra("transformers", needed_for="a model").PreTrainedModel
    return kind


SPEC: Final = TypeSpec(
    id="transformers.Model",
    locate=_locate,
    classes=(),
    encode=encode_model,
    build=_build,
    fields=frozenset(
        {
            "class",
            "config",
            "generation",
            "attention",
            "training",
            "unlike",
            "parameters",
            "buffers",
        }
    ),
    required=frozenset(
        {
            "class",
            "config",
            "generation",
            "attention",
            "training",
            "unlike",
            "parameters",
            "buffers",
        }
    ),
    transparent=frozenset({"parameters", "buffers"}),
)
