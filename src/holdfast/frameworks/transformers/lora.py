"""PEFT adapters: their own tensors and settings, on a base that is named by its content.

A version of an adapter lists the base's tensors by digest beside its own, so the store keeps the
base's bytes once, a load never lacks them, and no other base can take their place.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from typing import Any, Final

from holdfast import codec
from holdfast.codec.registry import TypeSpec
from holdfast.errors import Corrupt, HoldfastError, PartialLoad, UnsafeContent, Unsupported
from holdfast.frameworks.torch.match import slots_of
from holdfast.frameworks.torch.tensors import tensor_data
from holdfast.frameworks.transformers import building, configs, models
from holdfast.plugins import import_extra

__all__ = ["BASE_SPEC", "SPEC", "Base", "base_digest", "base_of", "onto", "refuse_other"]

# Methods whose state is parameters in the layers, and nothing else.
_METHODS: Final = frozenset({"IA3", "LOHA", "LOKR", "LORA"})
# Where it was loaded from and who wrote it.
_ORIGIN: Final = (
    "auto_mapping", "base_model_name_or_path", "peft_version", "revision", "runtime_config",
)  # fmt: skip
# Settings that import a package by name, copy layers or prepare the base from data.
_NOT_KEPT: Final = (
    "arrow_config", "corda_config", "eva_config", "kasa_config", "layer_replication",
    "loftq_config", "lora_ga_config", "megatron_config", "monteclora_config",
    "trainable_token_indices", "velora_config",
)  # fmt: skip
_MEGATRON: Final = "megatron.core"
_WRAPPED: Final = (".base_layer.", ".original_module.")
_PREFIX: Final = "base_model.model."


class Base:
    """The model below an adapter, as it would be without it.

    Attributes:
        model: The model with the adapter's layers in it.
        tables: Its own parameters and buffers under their own names.
    """

    def __init__(self, model: Any, tables: Mapping[str, dict[str, Any]]) -> None:
        self.model = model
        self.tables = tables


def base_of(peft: Any) -> Base:
    """Tell the base's own parameters and buffers from the adapter's.

    Raises:
        Unsupported: The base is not one that is kept.
    """
    model = peft.get_base_model()
    kind = building.class_of(model.config, type(model).__name__)
    if kind is not type(model):
        raise Unsupported(
            f"the adapter's base is a {type(model).__qualname__}, which transformers' own tables "
            "do not name.",
            hint="holdfast.save(get_peft_model_state_dict(model), name)  # the adapter's tensors",
        )
    live = models.tables_of(model)
    made = building.skeleton(
        kind, copy.deepcopy(model.config), {**live["parameters"], **live["buffers"]}
    )
    names = models.tables_of(made)
    tables: dict[str, dict[str, Any]] = {}
    for table, items in live.items():
        found = {_own_name(name): item for name, item in items.items() if _is_base(name)}
        tables[table] = {name: found[name] for name in names[table] if name in found}
    if missing := (names["parameters"].keys() - tables["parameters"].keys()):
        raise Unsupported(f"the base's parameter {min(missing)} is not in the adapted model")
    return Base(model, tables)


def _is_base(name: str) -> bool:
    return ".modules_to_save." not in name


def _own_name(name: str) -> str:
    for part in _WRAPPED:
        name = name.replace(part, ".")
    return name


def _encode_base(base: Base) -> dict[str, Any]:
    model = base.model
    return {
        "class": type(model).__name__,
        "config": configs.plain_config(model.config),
        "generation": configs.plain_generation(getattr(model, "generation_config", None)),
        "attention": models.attention_of(model.config),
        "training": False,
        "unlike": [],
        **base.tables,
    }


def base_digest(base: Base) -> str:
    """Return a digest of a base's configuration and tensors."""
    hasher = hashlib.sha256(repr(configs.plain_config(base.model.config)).encode())
    for table in ("parameters", "buffers"):
        for name, tensor in sorted(base.tables[table].items()):
            data = tensor_data(tensor)
            hasher.update(f"{name} {data.dtype} {data.shape}".encode())
            hasher.update(data.load())
    return f"sha256:{hasher.hexdigest()}"


def _encode(peft: Any) -> dict[str, Any]:
    _refuse_merged(peft)
    base = base_of(peft)
    own = {id(tensor) for table in base.tables.values() for tensor in table.values()}
    weights = {
        name: tensor
        for table in models.tables_of(peft).values()
        for name, tensor in table.items()
        if id(tensor) not in own
    }
    return {
        "base": base,
        "class": type(peft).__name__,
        "adapters": {name: _plain(config) for name, config in peft.peft_config.items()},
        "active": list(peft.active_adapters),
        **models.flags_of(peft),
        "weights": weights,
    }


def _refuse_merged(peft: Any) -> None:
    if any(getattr(part, "merged", False) is True for part in peft.modules()):
        raise Unsupported(
            "the adapter is merged into the base's weights.",
            hint="model.unmerge_adapter()  # or model = model.merge_and_unload() for a plain model",
        )


def _plain(config: Any) -> dict[str, Any]:
    told: dict[str, Any] = configs.plain(config.to_dict(), "model.peft_config")
    told = {key: value for key, value in told.items() if key not in _ORIGIN}
    _judge(told)
    return told


def _judge(told: Any) -> None:
    """Accept an adapter's settings that only describe.

    Raises:
        UnsafeContent: It names a package to import.
        Unsupported: It is of a method that is not kept.
        Corrupt: It is no table.
    """
    configs.judge(told, "the adapter's settings")
    if told.get("peft_type") not in _METHODS:
        raise Unsupported(
            f"adapters of the method {told.get('peft_type')!r:.40} are not kept; "
            f"those of {', '.join(sorted(_METHODS))} are.",
            hint="model = model.merge_and_unload()  # a plain model, where the method can",
        )
    if told.get("megatron_core", _MEGATRON) not in (None, _MEGATRON):
        raise UnsafeContent(
            f"UNSAFE  the adapter's settings import {told['megatron_core']!r:.60}. "
            "Nothing was run.",
            hint="config.megatron_core = 'megatron.core'",
        )
    used = next((name for name in _NOT_KEPT if told.get(name)), None)
    if used is not None:
        raise Unsupported(f"the adapter's setting {used} is not kept", hint=f"config.{used} = None")
    if any(key in told for key in _ORIGIN):
        raise Corrupt("the adapter's settings name where it came from")


def onto(fields: Mapping[str, Any], base: Any) -> Any:
    """Put a stored adapter onto its base, in place.

    Args:
        fields: The adapter's.
        base: A model; see ``refuse_other``.

    Raises:
        Corrupt, PartialLoad: The stored tensors are not those of the stored settings.
    """
    peft = import_extra("peft", needed_for="an adapter of PEFT")
    adapters, active, weights = fields["adapters"], fields["active"], fields["weights"]
    if type(adapters) is not dict or type(weights) is not dict or type(active) is not list:
        raise Corrupt("the parts of an adapter have wrong types")
    if not adapters or not set(active) <= adapters.keys():
        raise Corrupt("an adapter is active that is not there")
    for told in adapters.values():
        _judge(told)
    kind = _class_of(peft, fields["class"])
    flags = {id(p): p.requires_grad for p in base.parameters()}
    own = {id(tensor) for table in models.tables_of(base).values() for tensor in table.values()}
    try:
        model = _wrapped(peft, kind, base, adapters)
        if len(active) == 1:
            model.set_adapter(active[0])
        else:
            model.base_model.set_adapter(active)
    except HoldfastError:
        raise
    except Exception as error:
        raise Corrupt(
            f"PEFT cannot put the adapter onto its base: {type(error).__name__}: {error!s:.200}"
        ) from error
    _fill(model, weights, own)
    for name, told in adapters.items():  # as saved; construction adds to some lists
        model.peft_config[name] = _config(peft, told)
    for parameter in base.parameters():
        if id(parameter) in flags:
            parameter.requires_grad_(flags[id(parameter)])
    models.restore_flags(model, fields)
    return model


def _class_of(peft: Any, name: object) -> Any:
    known = (peft.PeftModel, *peft.MODEL_TYPE_TO_PEFT_MODEL_MAPPING.values())
    found = next((kind for kind in known if kind.__name__ == name), None)
    if found is None:
        raise Unsupported(f"PEFT has no class {name!r:.60} for adapted models")
    return found


def _config(peft: Any, told: Mapping[str, Any]) -> Any:
    kind = peft.PEFT_TYPE_TO_CONFIG_MAPPING[told["peft_type"]]
    return kind(**copy.deepcopy(dict(told)))


def _wrapped(peft: Any, kind: Any, base: Any, adapters: Mapping[str, Any]) -> Any:
    """Make the adapted model without values for the adapter."""
    import torch

    model = None
    with torch.random.fork_rng(devices=()):
        for name, told in adapters.items():
            config = _config(peft, told)
            if hasattr(config, "init_lora_weights"):
                config.init_lora_weights = True  # other ways change the base
            options = {"adapter_name": name, "low_cpu_mem_usage": True}
            if model is None:
                model = kind(base, config, autocast_adapter_dtype=False, **options)
            else:
                model.add_adapter(peft_config=config, **options)
    return model


def _fill(model: Any, weights: Mapping[str, Any], own: set[int]) -> None:
    slots = {name: slot for name, slot in slots_of(model).items() if id(slot.tensor) not in own}
    if slots.keys() != weights.keys():
        odd = sorted(slots.keys() ^ weights.keys())
        raise PartialLoad(
            f"The adapter's tensors are not those of its settings: {', '.join(odd[:5])}.",
            hint='holdfast.inspect("REF")',
        )
    for name, slot in slots.items():
        if not building.fits(slot, weights[name]):
            raise PartialLoad(f"The adapter's tensor {name} is of another shape.")
        building.put(slot, weights[name])


def refuse_other(stored: Mapping[str, Any], base: Any) -> None:
    """Refuse a base that is not the one that the adapter was made for.

    Args:
        stored: The fields of the base that was saved with it.
        base: The model given.

    Raises:
        PartialLoad: They differ; the message says in what first.
    """
    given = Base(base, models.tables_of(base))
    found = None
    if type(base).__name__ != stored["class"]:
        found = f"it is a {type(base).__name__}, not a {stored['class']}"
    elif configs.plain_config(base.config) != stored["config"]:
        found = "its configuration differs"
    else:
        for table in ("parameters", "buffers"):
            found = found or _first_difference(stored[table], given.tables[table])
    if found is not None:
        raise PartialLoad(
            f"The adapter belongs onto another base than the one given: {found}. "
            "Nothing was changed.",
            hint='model = holdfast.load("REF")  # with the base that it was made for',
        )


def _first_difference(stored: Mapping[str, Any], given: Mapping[str, Any]) -> str | None:
    if odd := sorted(stored.keys() ^ given.keys()):
        return f"the tensor {odd[0]} is only in one of them"
    for name, tensor in stored.items():
        one, other = tensor_data(tensor), tensor_data(given[name])
        same = (one.dtype, one.shape) == (other.dtype, other.shape)
        if not same or not codec.same_bytes(one.load(), other.load()):
            return f"the tensor {name} has other numbers"
    return None


def _locate() -> type:
    kind: type = import_extra("peft", needed_for="an adapter of PEFT").PeftModel
    return kind


_FIELDS: Final = frozenset({"base", "class", "adapters", "active", "training", "unlike", "weights"})
SPEC: Final = TypeSpec(
    id="peft.Model",
    locate=_locate,
    classes=(),
    encode=_encode,
    build=lambda fields: onto(fields, fields["base"]),
    fields=_FIELDS,
    required=_FIELDS,
    transparent=frozenset({"base"}),
)
# Encodes the base of a live adapter as the plain model that it is.
BASE_SPEC: Final = TypeSpec(id=models.SPEC.id, locate=lambda: Base, classes=(), encode=_encode_base)
