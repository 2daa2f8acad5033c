"""sentence-transformers: pipelines of the package's own modules, by a closed table."""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from holdfast.codec.registry import TypeSpec
from holdfast.errors import Corrupt, HoldfastError, Unsupported
from holdfast.frameworks.torch.match import slots_of
from holdfast.frameworks.transformers import building, configs, models
from holdfast.plugins import import_extra

__all__ = ["MODULES", "MODULE_SPEC", "SPEC", "judge"]

_PACKAGE: Final = "sentence_transformers.sentence_transformer.modules"
_BODY: Final = "Transformer"
# Modules with settings and tensors only.
MODULES: Final = frozenset(
    {
        "CNN", "Dense", "Dropout", "LayerNorm", "Normalize", "Pooling", "WeightedLayerPooling",
    }
)  # fmt: skip
_SIMILARITIES: Final = frozenset({"cosine", "dot", "euclidean", "manhattan"})
# Methods of a model that may turn inputs into features.
_METHODS: Final = frozenset(
    {
        "forward", "get_audio_features", "get_image_features", "get_text_features",
        "get_video_features",
    }
)  # fmt: skip
# Activations of a dense layer, as the package spells them.
_ACTIVATIONS: Final = {
    f"torch.nn.modules.{module}.{name}": name
    for module, names in {
        "activation": (
            "ELU", "GELU", "LeakyReLU", "LogSigmoid", "Mish", "ReLU", "ReLU6", "SELU", "SiLU",
            "Sigmoid", "Softplus", "Softsign", "Tanh", "Tanhshrink",
        ),
        "linear": ("Identity",),
    }.items()
    for name in names
}  # fmt: skip
_TOLD: Final = ("prompts", "default_prompt_name", "truncate_dim")


def _encode(model: Any) -> dict[str, Any]:
    own: Any = _locate()
    if type(model) is not own:
        raise Unsupported(
            f"{type(model).__qualname__} is not a SentenceTransformer itself.",
            hint="holdfast.save(model[0].auto_model, name)  # the transformers model in it",
        )
    if getattr(model, "module_kwargs", None) and any(model.module_kwargs.values()):
        raise Unsupported("its modules take arguments of their own (module_kwargs).")
    told = {name: configs.plain(getattr(model, name), f"model.{name}") for name in _TOLD}
    return {
        **told,
        "similarity": str(model.similarity_fn_name),
        "modules": dict(model.named_children()),
        **models.flags_of(model),
    }


def _encode_module(module: Any) -> dict[str, Any]:
    name = type(module).__name__
    if name not in {*MODULES, _BODY} or _class_of(name) is not type(module):
        raise Unsupported(
            f"modules of the class {type(module).__qualname__} are not kept; those of "
            f"{', '.join(sorted({*MODULES, _BODY}))} are.",
            hint="holdfast.save(model[0].auto_model, name)  # the transformers model in it",
        )
    settings = configs.plain(module.get_config_dict(), name)
    judge(name, settings)
    if name == _BODY:
        if module.backend != "torch":
            raise Unsupported(f"its backend is {module.backend!r:.40}, not torch.")
        inner = {"model": module.model, "processor": module.processor}
        return {"class": name, "settings": settings, "inner": inner, "state": {}}
    state = models.tables_of(module)
    return {
        "class": name,
        "settings": settings,
        "inner": {},
        "state": {**state["parameters"], **state["buffers"]},
    }


def _class_of(name: str) -> Any:
    """Return one of the package's classes; the name is one of our table."""
    return vars(import_extra(_PACKAGE, needed_for="a sentence-transformers model"))[name]


def judge(name: str, settings: Any) -> None:
    """Accept the settings of a module that only describe; raises as ``configs.judge``."""
    configs.judge(settings, f"the settings of {name}")
    activation = settings.get("activation_function")
    if activation is not None and activation not in _ACTIVATIONS:
        raise Unsupported(
            f"the activation {activation!r:.80} of {name} is not one of torch's own.",
            hint="dense.activation_function = torch.nn.Tanh()",
        )
    modalities = settings.get("modality_config") or {}
    pairs = modalities.items() if isinstance(modalities, dict) else [("?", None)]
    for modality, told in pairs:
        if not isinstance(told, dict) or told.get("method") not in _METHODS:
            raise Unsupported(f"the modality {modality!r:.40} calls a method that is not known")


def _build_module(fields: Mapping[str, Any]) -> Any:
    name, settings = fields["class"], fields["settings"]
    if name not in {*MODULES, _BODY}:
        raise Unsupported(f"modules of the class {name!r:.60} are not kept")
    judge(name, settings)
    try:
        if name == _BODY:
            return _body(settings, fields["inner"])
        return _plain_module(name, settings, fields["state"])
    except HoldfastError:
        raise
    except Exception as error:
        raise Corrupt(
            f"the module {name} cannot be made: {type(error).__name__}: {error!s:.200}"
        ) from error


def _plain_module(name: str, settings: Mapping[str, Any], state: Any) -> Any:
    import torch

    if type(state) is not dict:
        raise Corrupt("the tensors of a module are not a table of names")
    given = dict(settings)
    if "activation_function" in given:
        given["activation_function"] = getattr(
            torch.nn, _ACTIVATIONS[given["activation_function"]]
        )()
    module = building.made(lambda: _class_of(name)(**given), state)
    if slots_of(module).keys() != state.keys():
        raise Corrupt(f"the tensors of {name} are not those of its settings")
    building.place(module, state)
    return module


def _body(settings: Mapping[str, Any], inner: Any) -> Any:
    """Make the module around a transformers model that is there already.

    The package's constructor reads a folder; it gets one with the tokenizer's own files, and the
    model in place of the one that it would read.
    """
    kind = _class_of(_BODY)
    if type(inner) is not dict or inner.keys() != {"model", "processor"}:
        raise Corrupt("the module Transformer has no model or no processor")
    model, processor = inner["model"], inner["processor"]
    module = kind.__new__(kind)
    vars(module)["_load_config"] = lambda *_, **__: (model.config, False)
    vars(module)["_load_model"] = lambda *_, **__: model
    given = {key: value for key, value in settings.items() if key != "max_seq_length"}
    if "modality_config" in given:
        given["modality_config"] = {
            tuple(key.split("+")) if "+" in key else key: told
            for key, told in given["modality_config"].items()
        }
    local = {"local_files_only": True, "trust_remote_code": False}
    with tempfile.TemporaryDirectory(prefix="holdfast-") as folder:
        model.config.save_pretrained(folder)
        processor.save_pretrained(folder)
        kind.__init__(module, folder, processor_kwargs=local, config_kwargs={}, **given)
    for name in ("_load_config", "_load_model"):
        vars(module).pop(name, None)
    module.processor = processor
    return module


def _build(fields: Mapping[str, Any]) -> Any:
    modules, similarity = fields["modules"], fields["similarity"]
    if type(modules) is not dict or not modules or similarity not in _SIMILARITIES:
        raise Corrupt("a sentence-transformers model has no modules, or an unknown similarity")
    for name in _TOLD:
        configs.judge({name: fields[name]}, "the model's settings")
    kind: Any = _locate()
    try:
        model = kind(
            modules=OrderedDict(modules),
            device="cpu",
            similarity_fn_name=similarity,
            **{name: fields[name] for name in _TOLD},
        )
    except Exception as error:
        raise Corrupt(
            f"the pipeline cannot be made: {type(error).__name__}: {error!s:.200}"
        ) from error
    models.restore_flags(model, fields)
    return model


def _locate() -> type:
    package = import_extra("sentence_transformers", needed_for="a sentence-transformers model")
    kind: type = package.SentenceTransformer
    return kind


_FIELDS: Final = frozenset({*_TOLD, "similarity", "modules", "training", "unlike"})
SPEC: Final = TypeSpec(
    id="sentence_transformers.Model",
    locate=_locate,
    classes=(),
    encode=_encode,
    build=_build,
    fields=_FIELDS,
    required=_FIELDS,
)
_MODULE_FIELDS: Final = frozenset({"class", "settings", "inner", "state"})
MODULE_SPEC: Final = TypeSpec(
    id="sentence_transformers.Module",
    locate=lambda: _class_of(_BODY),
    classes=(),
    encode=_encode_module,
    build=_build_module,
    fields=_MODULE_FIELDS,
    required=_MODULE_FIELDS,
    transparent=frozenset({"inner", "state"}),
)
