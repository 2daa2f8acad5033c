"""Functions and classes as a pickle names them, looked up in closed tables."""

from __future__ import annotations

from typing import Any, Final

from holdfast.codec.function_table import FUNCTIONS
from holdfast.codec.nodes import BUILTINS, NUMPY_TYPES

__all__ = ["CLASSES", "function_name"]

# Module that offers a function to the modules that define it, over all supported releases: a
# pickle names the latter.
_HOMES: Final = {
    "builtins": "builtins",
    "math": "math",
    "numpy": "numpy numpy._core.umath numpy._core._multiarray_umath numpy.core.umath "
    "numpy.core._multiarray_umath numpy.core.fromnumeric numpy.lib.function_base",
    "numpy.linalg": "numpy.linalg numpy.linalg.linalg numpy.linalg._linalg",
    "scipy.special": "scipy.special scipy.special._ufuncs scipy.special._special_ufuncs "
    "scipy.special._basic scipy.special._logsumexp",
    "scipy.spatial.distance": "scipy.spatial.distance",
    "scipy.stats": "scipy.stats scipy.stats._morestats scipy.stats._entropy scipy.stats._stats_py "
    "scipy.stats._variation scipy.stats.morestats scipy.stats.stats",
    "sklearn.metrics.pairwise": "sklearn.metrics.pairwise",
    "sklearn.metrics": "sklearn.metrics sklearn.metrics._classification sklearn.metrics._ranking "
    "sklearn.metrics._regression sklearn.metrics.cluster._supervised "
    "sklearn.metrics.cluster._unsupervised sklearn.metrics.cluster._bicluster",
    "sklearn.feature_selection": "sklearn.feature_selection "
    "sklearn.feature_selection._univariate_selection sklearn.feature_selection._mutual_info",
    "sklearn.utils.validation": "sklearn.utils.validation",
    "sklearn.metrics._scorer": "sklearn.metrics._scorer",
}

_NAMES: Final[dict[str, str]] = {
    f"{home}:{attribute}": name
    for name, (module, attribute) in FUNCTIONS.items()
    for home in _HOMES.get(module, module).split()
}


def function_name(key: str) -> str | None:
    """Return a function's name in the codec's table.

    Args:
        key: ``module:name`` as a pickle has it, the defining module of any supported release.
    """
    return _NAMES.get(key)


# Classes that may be values, as a pickle names them.
CLASSES: Final[dict[str, Any]] = {
    **{f"{kind.__module__}:{kind.__qualname__}": kind for kind in BUILTINS.values()},
    **{f"numpy:{name}": kind for name, kind in NUMPY_TYPES.items()},
    **{f"{kind.__module__}:{kind.__qualname__}": kind for kind in NUMPY_TYPES.values()},
    "builtins:Ellipsis": ...,
}
