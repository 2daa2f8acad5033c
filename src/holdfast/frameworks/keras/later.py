"""Fields of configurations that Keras gained since 3.5, for reading them under an earlier release.

A constructor refuses a field that it does not know, though nearly always the field says what
earlier releases did anyway. Such fields are left out; where one says anything else, it stays, so
that Keras refuses it and Holdfast names the release that is needed. Found by comparing the
constructors of 3.5.0 and 3.15.1.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from typing import Any, Final

from holdfast.frameworks.keras.judge import is_of_keras

__all__ = ["without_later"]

# Field to what it says where a layer does what it did before there was the field.
_LATER: Final[Mapping[str, tuple[Any, ...]]] = {
    "antialias": (False,),
    "axis": (None, -1),
    "bounding_box_format": (None,),
    "data_format": (None, "channels_last"),
    "epsilon": (None,),
    "equal_nan": (False,),
    "factor": (None,),
    "flash_attention": (None, False),
    "from_sorted_ids": (False,),
    "gptq_unpacked_column_size": (None,),
    "ignore_class": (None,),
    "input_axes": (None,),
    "lora_alpha": (None,),
    "oov_method": ("floormod",),
    "output_axes": (None,),
    "quantization_config": (None,),
    "ragged": (None, False),
    "reduction": (None,),
    "renorm": (False,),
    "renorm_clipping": (None,),
    "renorm_momentum": (0.99,),
    "salt": (None,),
    "seed": (None,),
    "side": ("left",),
    "sliding_window": (None,),
    "upper": (False,),
    "use_gate": (False,),
    "value_range": ([0, 255],),
}


def without_later(item: Any) -> Any:
    """Return a judged configuration without the fields that the installed Keras lacks.

    Args:
        item: What ``judge`` wrote: it names nothing but what is known.
    """
    if isinstance(item, list):
        return [without_later(each) for each in item]
    if not isinstance(item, dict):
        return item
    found = {name: without_later(each) for name, each in item.items()}
    inner, module, kind = (found.get(name) for name in ("config", "module", "class_name"))
    own = found.get("registered_name") is None and is_of_keras(module, kind)
    if own and isinstance(inner, dict) and isinstance(module, str):
        found["config"] = {
            name: each
            for name, each in inner.items()
            if not _says_nothing_new(name, inner, module) or _takes(module, kind, name)
        }
    return found


def _says_nothing_new(name: str, config: Mapping[str, Any], module: str) -> bool:
    value = config[name]
    if name == "name":  # of an operation, which gets its name when the model is built
        return module.startswith("keras.src.ops.")
    if name == "lora_alpha" and value == config.get("lora_rank"):
        return True
    return any(type(value) is type(each) and value == each for each in _LATER.get(name, ()))


@lru_cache(maxsize=1024)
def _takes(module: str, name: str, field: str) -> bool:
    """Say whether a constructor takes a field, or hands it on to one that does."""
    kind = getattr(import_module(module), name, None)
    for base in getattr(kind, "__mro__", ()):
        if "__init__" in base.__dict__:
            taken = inspect.signature(base.__dict__["__init__"]).parameters
            if field in taken:
                return True
            if all(each.kind is not each.VAR_KEYWORD for each in taken.values()):
                return False
    return kind is None  # of what is not there nothing is known
