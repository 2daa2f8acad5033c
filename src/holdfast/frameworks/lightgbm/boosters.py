"""The booster of LightGBM: its native text, and what its Python object knows besides."""

from __future__ import annotations

import hashlib
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from holdfast.codec.tensors import FileData
from holdfast.errors import Corrupt
from holdfast.frameworks.lightgbm.by_name import predicting_by_name
from holdfast.frameworks.lightgbm.judge import judge
from holdfast.plugins import import_extra

__all__ = ["FIELDS", "build", "encode", "from_text", "state", "text_of"]

_KEPT: Final = ("best_iteration", "best_score", "params", "pandas_categorical")
FIELDS: Final = frozenset({"model", *_KEPT})

# Writing takes longest of all steps of a save, so what ``encode`` wrote of a booster is remembered
# by its digest until ``state`` asks for it, which a save does once after the booster's last call.
_written: weakref.WeakKeyDictionary[Any, bytes] = weakref.WeakKeyDictionary()


def text_of(booster: Any) -> bytes:
    """Return a booster's native text, with all iterations.

    Into a file it is written once; ``model_to_string`` writes it a second time when a megabyte was
    not enough.
    """
    with tempfile.TemporaryDirectory(prefix="holdfast-") as folder:
        path = Path(folder, "model.txt")
        booster.save_model(path, num_iteration=-1)
        return path.read_bytes()


def encode(booster: Any) -> Mapping[str, Any]:
    """Return the native text and what the object knows besides."""
    text = text_of(booster)
    _written[booster] = hashlib.sha256(text).digest()
    return {"model": FileData(".txt", text), **{name: getattr(booster, name) for name in _KEPT}}


def state(booster: Any) -> Mapping[str, Any]:
    """Return what two boosters must share: their text, by its digest, and the rest."""
    digest = _written.pop(booster, None) or hashlib.sha256(text_of(booster)).digest()
    return {"text": digest, **{name: getattr(booster, name) for name in _KEPT}}


def build(fields: Mapping[str, Any]) -> Any:
    """Build a booster of its judged text; it finds columns by name.

    Raises:
        Corrupt: The text is damaged, or the rest is of another type than it must be.

    """
    for name, kinds in (("best_iteration", int), ("best_score", dict), ("params", dict)):
        if not isinstance(fields[name], kinds):
            raise Corrupt(f"{name} of a LightGBM booster is of another type")
    categories = fields["pandas_categorical"]
    if not (categories is None or type(categories) is list):
        raise Corrupt("the categories of a LightGBM booster are no list")
    booster = _native(bytes(fields["model"]))
    for name in _KEPT:
        setattr(booster, name, fields[name])
    return booster


def from_text(data: bytes) -> Any:
    """Read a model file; the booster finds columns by name.

    Raises:
        Corrupt: It is damaged, or points outside itself.

    """
    return _native(data)


def _native(data: bytes) -> Any:
    judge(data)
    lightgbm = import_extra("lightgbm", needed_for="loading a LightGBM model")
    try:
        booster = lightgbm.Booster(model_str=data.decode())
    except (lightgbm.basic.LightGBMError, ValueError, IndexError, RecursionError) as error:
        raise Corrupt(f"LightGBM refuses the model: {error!s:.160}") from error
    return predicting_by_name(booster)
