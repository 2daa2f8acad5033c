"""The model behind CatBoost's classes: its native bytes, judged before CatBoost reads them."""
# ruff: noqa: SLF001 - this object has no public methods; pickle uses the same ones

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from holdfast.codec.tensors import FileData
from holdfast.errors import Corrupt
from holdfast.frameworks.catboost.judge import Judged, judge
from holdfast.plugins import import_extra

__all__ = ["FIELDS", "build", "count_trees", "encode", "locate", "native", "state"]

FIELDS: Final = frozenset({"model"})


def locate() -> type:
    """Return the class of trained models, which is CatBoost's own and has no public name."""
    catboost = import_extra("catboost", needed_for="a CatBoost model")
    kind: type = catboost.core._CatBoost
    return kind


def encode(model: Any) -> Mapping[str, Any]:
    """Return the native bytes, or none of a model that was not trained.

    CatBoost writes what it has learnt in the order of its hash tables, which is another one once it
    has read it back. So what is kept is what it writes then, and the same model saved again is the
    same content.

    Raises:
        Unsupported: Parts of the model cannot be judged.
    """
    data = _written(model)
    again = None if data is None else _written(_read(data)[0])
    return {"model": None if again is None else FileData(".cbm", again)}


def state(model: Any) -> Mapping[str, Any]:
    """Return what two models must share: a digest of all that they hold, whatever the order."""
    data = _written(model)
    return {"model": None if data is None else judge(data).digest}


def build(fields: Mapping[str, Any]) -> Any:
    """Build a model of its judged native bytes.

    Raises:
        Corrupt: They are damaged, or point outside themselves.
        Unsupported: Parts of them cannot be judged.
    """
    return locate()() if fields["model"] is None else native(bytes(fields["model"]))[0]


def native(data: bytes) -> tuple[Any, Judged]:
    """Judge bytes and let CatBoost read them; see ``build``."""
    return _read(data)


def count_trees(model: Any) -> int:
    """Return how many trees a model has."""
    return int(model._get_tree_count())


def _read(data: bytes) -> tuple[Any, Judged]:
    judged, model = judge(data), locate()()
    catboost = import_extra("catboost", needed_for="loading a CatBoost model")
    try:
        model._deserialize_model(data)
    except catboost.CatBoostError as error:
        raise Corrupt(f"CatBoost refuses the model: {error!s:.160}") from error
    return model, judged


def _written(model: Any) -> bytes | None:
    """Return the native bytes; None of a model that was not trained."""
    if not model._get_tree_count() and not model._get_params():
        return None
    data: bytes = model._serialize_model()
    return data
