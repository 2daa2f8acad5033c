"""Small containers of scikit-learn that are their members: Bunch and the imputer's triplets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from holdfast.codec.registry import TypeSpec
from holdfast.errors import Corrupt
from holdfast.plugins import import_extra

__all__ = ["TYPES"]


def _bunch_class() -> type:
    kind: type = import_extra("sklearn.utils", needed_for="a Bunch").Bunch
    return kind


def _build_bunch(fields: Mapping[str, Any]) -> Any:
    items = fields["items"]
    if type(items) is not dict or not all(type(key) is str for key in items):
        raise Corrupt("the members of a Bunch have no names")
    return _bunch_class()(**items)


def _triplet_class() -> type:
    import_extra("sklearn.experimental.enable_iterative_imputer", needed_for="an IterativeImputer")
    module = import_extra("sklearn.impute._iterative", needed_for="an IterativeImputer")
    kind: type = module._ImputerTriplet  # noqa: SLF001 - scikit-learn has no public name for it
    return kind


_TRIPLET: Final = frozenset({"feat_idx", "neighbor_feat_idx", "estimator"})

TYPES: Final = (
    TypeSpec(
        id="sklearn.Bunch",
        locate=_bunch_class,
        classes=("sklearn.utils:Bunch", "sklearn.utils._bunch:Bunch"),
        encode=lambda bunch: {"items": dict(bunch)},
        build=_build_bunch,
        fields=frozenset({"items"}),
        required=frozenset({"items"}),
        transparent=frozenset({"items"}),
    ),
    TypeSpec(
        id="sklearn._ImputerTriplet",
        locate=_triplet_class,
        classes=("sklearn.impute._iterative:_ImputerTriplet",),
        encode=lambda triplet: triplet._asdict(),
        build=lambda fields: _triplet_class()(**fields),
        fields=_TRIPLET,
        required=_TRIPLET,
    ),
)
