"""Write the table of statsmodels types: which classes and which attributes a file may name.

Fits every result of ``tests/frameworks/statsmodels_zoo.py``, walks what was fitted, and adds the
classes of the same modules that belong to such results, with what their source assigns to
``self``. Run it under each supported release, oldest first, and review the difference; classes
and attributes are only ever added, so that files of every release stay readable::

    python tools/list_statsmodels_types.py
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import json
import sys
import textwrap
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "src/holdfast/frameworks/statsmodels/types.json"
sys.path.insert(0, str(ROOT / "tests/frameworks"))

# Modules of which every class that fits is listed, shown by a fit of the zoo or not.
WHOLE = (
    "statsmodels.genmod.families.links", "statsmodels.genmod.families.family",
    "statsmodels.genmod.families.varfuncs", "statsmodels.genmod.cov_struct",
    "statsmodels.robust.norms", "statsmodels.robust.scale", "statsmodels.discrete.discrete_model",
    "statsmodels.discrete.count_model", "statsmodels.discrete.truncated_model",
    "statsmodels.discrete.conditional_models", "statsmodels.regression.linear_model",
    "statsmodels.tsa.deterministic", "statsmodels.base.data", "statsmodels.base.wrapper",
)  # fmt: skip
# Kept by being made anew (frameworks/statsmodels/spaces.py), or not data.
APART = (
    "statsmodels.tsa.statespace.", "statsmodels.tsa.arima.", "statsmodels.distributions.",
    "statsmodels.regression.recursive_ls.",
)  # fmt: skip
# Set on instances by statsmodels without ``self``, by modules other than the class's own.
COMMON = {
    "Model": "formula data_in_cache _formula_max_endog",
    "ModelData": "frame formula model_spec design_info xnames ynames missing_row_idx",
    "Results": "mle_retvals mle_settings mlefit converged iterations method history fit_history",
    "ResultsWrapper": "_results converged iter",
}


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
        elif type(item).__module__.partition(".")[0] == "statsmodels":
            queue.extend(getattr(item, "__dict__", {}).values())


def is_plain(kind: type) -> bool:
    """Say whether instances are their ``__dict__`` and of statsmodels' own Python code."""
    own = kind.__module__.partition(".")[0] == "statsmodels" and "." not in kind.__qualname__
    builtin = issubclass(kind, dict | list | tuple | str | BaseException | Warning)
    apart = f"{kind.__module__}.".startswith(APART)
    return own and kind.__dictoffset__ != 0 and not builtin and not apart


def assigned(kind: type) -> set[str]:
    """Return the attributes that the source of a class and its bases assigns to ``self``."""
    found: set[str] = set()
    for base in kind.__mro__:
        found.update(COMMON.get(base.__name__, "").split())
        if base.__module__.partition(".")[0] != "statsmodels":
            continue
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(base)))):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.ctx, ast.Store)
                and isinstance(node.value, ast.Name)
                and node.value.id == "self"
            ):
                found.add(node.attr)
    members = [item for base in kind.__mro__ for item in vars(base).items()]
    return found - {name for name, member in members if hasattr(type(member), "__set__")}


def shadows(kind: type, name: str) -> bool:
    """Say whether an attribute of this name would stand in place of a method of the class."""
    return inspect.isroutine(inspect.getattr_static(kind, name, None))


def shown() -> dict[type, set[str]]:
    """Return the plain classes met in fitted results, with the attributes they had."""
    import statsmodels_zoo as zoo

    found: dict[type, set[str]] = {}
    for name, make in {**zoo.RESULTS, **zoo.FORMULAS}.items():
        try:
            result = zoo.fitted(make)
        except Exception as error:  # noqa: BLE001 - what this release does not know
            print(f"not fitted here: {name}: {error!s:.150}", file=sys.stderr)
            continue
        for change in (None, "summary", "remove_data"):  # what is asked may be remembered
            with contextlib.suppress(Exception):
                result if change is None else getattr(result, change)()
            for item in walked(result):
                if is_plain(type(item)):
                    found.setdefault(type(item), set()).update(vars(item))
    return found


def offered(modules: set[str]) -> Iterator[type]:
    """Yield further classes of the modules that the zoo met: models, results and their parts."""
    for name in sorted(modules):
        __import__(name)
        for kind in vars(sys.modules[name]).values():
            mine = isinstance(kind, type) and kind.__module__ == name and is_plain(kind)
            family = {base.__name__ for base in kind.__mro__} if mine else set()
            if mine and (name in WHOLE or family & {"Model", "Results", "ResultsWrapper"}):
                yield kind


def main() -> None:
    """Merge what this release of statsmodels shows into the table."""
    table: dict[str, dict[str, Any]] = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    found = shown()
    for kind in offered({*WHOLE, *(kind.__module__ for kind in found)}):
        found.setdefault(kind, set())
    for kind, seen in found.items():
        name = f"{kind.__module__}:{kind.__qualname__}"
        id_ = f"statsmodels.{kind.__module__.rpartition('.')[2]}.{kind.__qualname__}"
        entry = table.setdefault(id_, {"classes": [], "fields": ""})
        entry["classes"] = [*(known for known in entry["classes"] if known != name), name]
        new = {item for item in assigned(kind) - seen if not shadows(kind, item)}
        fields = {*entry["fields"].split(), *seen, *new} - {"__doc__"}
        entry["fields"] = " ".join(sorted(fields))
    lines = [f" {json.dumps(name)}: {json.dumps(entry)}" for name, entry in sorted(table.items())]
    TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{len(table)} types")


if __name__ == "__main__":
    main()
