"""Write the table of scikit-learn types: which classes and attributes a file may name.

Fits every estimator of ``tests/frameworks/sklearn_zoo.py``, walks what was fitted, and adds what
the classes' own source assigns to ``self``. Run it under each supported release, oldest first, and
review the difference; classes and attributes are only ever added, so that files of every release
stay readable::

    python tools/list_sklearn_types.py
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
import textwrap
import warnings
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "src/holdfast/frameworks/sklearn/types.json"
sys.path.insert(0, str(ROOT / "tests/frameworks"))

# What any estimator may carry, whatever it was fitted on.
COMMON = {"_metadata_request", "_sklearn_output_config", "feature_names_in_", "n_features_in_"}
# Classes that estimators may hold without a fit of the zoo having shown each.
MODULES = (
    "sklearn.gaussian_process.kernels", "sklearn.metrics._scorer", "sklearn.model_selection._split",
)  # fmt: skip
# What other classes are derived from.
UNFINISHED = re.compile(r"Mixin$|^_?Base|^_RepeatedSplits$")
# Rebuilt by code of their own (frameworks/sklearn/losses.py and its neighbours), or not data.
APART = (
    "sklearn._loss.", "sklearn.ensemble._hist_gradient_boosting.predictor:",
    "sklearn.utils._bunch:", "sklearn.utils:Bunch", "sklearn.impute._iterative:_ImputerTriplet",
    "sklearn.utils._param_validation:", "sklearn.ensemble._hist_gradient_boosting.loss:",
)  # fmt: skip
# Never an attribute worth keeping: what a patched method leaves behind.
LEFTOVERS = {"_raw_predict"}


def walked(root: Any) -> Iterator[Any]:
    """Yield every object below ``root`` once."""
    seen: dict[int, Any] = {}
    queue = deque([root])
    while queue:
        item = queue.popleft()
        if id(item) in seen or isinstance(item, type) or inspect.isroutine(item):
            continue
        seen[id(item)] = item
        yield item
        if isinstance(item, dict):
            queue.extend([*item.keys(), *item.values()])
        elif isinstance(item, list | tuple | set | frozenset):
            queue.extend(item)
        elif isinstance(item, np.ndarray):
            queue.extend(item.ravel().tolist() if item.dtype == object else ())
        if type(item).__module__.partition(".")[0] == "sklearn":
            queue.extend(getattr(item, "__dict__", {}).values())


def is_plain(kind: type) -> bool:
    """Say whether instances are their ``__dict__`` and of scikit-learn's own Python code."""
    name = f"{kind.__module__}:{kind.__qualname__}"
    compiled = any("__pyx_vtable__" in vars(base) for base in kind.__mro__)
    own = kind.__module__.partition(".")[0] == "sklearn" and "<locals>" not in name
    builtin = issubclass(kind, dict | list | tuple | str | BaseException)
    return own and kind.__dictoffset__ != 0 and not compiled and not builtin


def assigned(kind: type) -> set[str]:
    """Return the attributes that the source of a class and its bases assigns to ``self``."""
    found: set[str] = set()
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] != "sklearn":
            continue
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(base)))):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.ctx, ast.Store)
                and isinstance(node.value, ast.Name)
                and node.value.id == "self"
            ):
                found.add(_mangled(base, node.attr))
    members = [item for base in kind.__mro__ for item in vars(base).items()]
    return found - {name for name, member in members if isinstance(member, property)}


def _mangled(kind: type, name: str) -> str:
    private = name.startswith("__") and not name.endswith("__")
    return f"_{kind.__name__.lstrip('_')}{name}" if private else name


def parameters(kind: Any) -> set[str]:
    """Return the names of the constructor's parameters."""
    return set(kind._get_param_names()) if issubclass(kind, BaseEstimator) else set()  # noqa: SLF001


def shown() -> dict[type, set[str]]:
    """Return the plain classes met in fitted estimators, with the attributes they had."""
    import sklearn_zoo

    kinds = sklearn_zoo.kinds()
    found: dict[type, set[str]] = {kind: set() for kind in kinds.values()}
    plain = [sklearn_zoo.Option(name, {}) for name in kinds]
    for option in [*plain, *sklearn_zoo.options()]:
        try:
            model = sklearn_zoo.case_of(option).model
        except Exception as error:  # noqa: BLE001 - an option that this release does not know
            said = " ".join(f"{option.kind} {option.params}: {error}".split())
            print(f"not fitted here: {said[:150]}", file=sys.stderr)
            continue
        for item in walked(model):
            if is_plain(type(item)):
                found.setdefault(type(item), set()).update(vars(item))
    return found


def identifier(kind: type) -> str:
    """Return the type's name in files: two classes share one only where one became the other."""
    old_loss = kind.__module__ == "sklearn.ensemble._gb_losses"
    return f"sklearn.{'gb_losses.' if old_loss else ''}{kind.__qualname__}"


def offered() -> Iterator[type]:
    """Yield the classes of the modules whose instances are parameters."""
    for name in MODULES:
        __import__(name)
        for kind in vars(sys.modules[name]).values():
            own = isinstance(kind, type) and kind.__module__ == name
            if own and not inspect.isabstract(kind) and not UNFINISHED.search(kind.__name__):
                yield kind


def main() -> None:
    """Merge what this release of scikit-learn shows into the table."""
    warnings.simplefilter("ignore")
    table: dict[str, dict[str, Any]] = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    found = shown()
    for kind in offered():
        found.setdefault(kind, set())
    for kind, seen in found.items():
        name = f"{kind.__module__}:{kind.__qualname__}"
        if not is_plain(kind) or name.startswith(APART):
            continue
        entry = table.setdefault(identifier(kind), {"classes": [], "fields": ""})
        entry["classes"] = [*(known for known in entry["classes"] if known != name), name]
        common = COMMON if hasattr(kind, "get_params") else set()
        fields = {*entry["fields"].split(), *common, *seen, *assigned(kind), *parameters(kind)}
        entry["fields"] = " ".join(sorted(fields - LEFTOVERS))
    lines = [f" {json.dumps(name)}: {json.dumps(entry)}" for name, entry in sorted(table.items())]
    TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{len(table)} types")


if __name__ == "__main__":
    main()
