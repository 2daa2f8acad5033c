"""Holdfast keeps machine-learning models.

They are saved without pickle, proven at every load to answer as they did, and versioned in a
small deduplicating store::

    import holdfast

    holdfast.save(model, "churn", inputs=X_train, metrics={"auc": 0.91})
    model = holdfast.load("churn@prod")

Every name below is loaded on first use, so that ``import holdfast`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.api.converting import convert
    from holdfast.api.diff import diff
    from holdfast.api.exporting import export
    from holdfast.api.history import get, log, promote, rollback, versions
    from holdfast.api.inspecting import inspect
    from holdfast.api.preflighting import preflight
    from holdfast.api.save import save
    from holdfast.api.scanning import scan
    from holdfast.api.store import Store
    from holdfast.api.verbs import load, predict, register
    from holdfast.api.verifying import verify
    from holdfast.api.version import Version
    from holdfast.errors import HoldfastError

__version__ = "0.1.0"

__all__ = [
    "HoldfastError",
    "Store",
    "Version",
    "convert",
    "diff",
    "export",
    "get",
    "inspect",
    "load",
    "log",
    "predict",
    "preflight",
    "promote",
    "register",
    "rollback",
    "save",
    "scan",
    "verify",
    "versions",
]

_HOMES = {
    "HoldfastError": "holdfast.errors",
    "Store": "holdfast.api.store",
    "Version": "holdfast.api.version",
    "convert": "holdfast.api.converting",
    "diff": "holdfast.api.diff",
    "export": "holdfast.api.exporting",
    "get": "holdfast.api.history",
    "inspect": "holdfast.api.inspecting",
    "load": "holdfast.api.verbs",
    "log": "holdfast.api.history",
    "predict": "holdfast.api.verbs",
    "preflight": "holdfast.api.preflighting",
    "promote": "holdfast.api.history",
    "register": "holdfast.api.verbs",
    "rollback": "holdfast.api.history",
    "save": "holdfast.api.save",
    "scan": "holdfast.api.scanning",
    "verify": "holdfast.api.verifying",
    "versions": "holdfast.api.history",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'holdfast' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__", "errors"])
