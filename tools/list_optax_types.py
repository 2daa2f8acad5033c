"""Write the table of optax's states: which named tuples a file may hold, and their fields.

Reads the source of optax and runs none of it. Give the folders of further releases, oldest first;
classes, places and fields are only ever added, so that files of every release stay readable::

    python tools/list_optax_types.py [FOLDER/optax ...]
"""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "src/holdfast/frameworks/jax/optax_states.json"

# Named tuples that hold functions, and results that are never part of a state.
APART = {
    "Aggregator", "Aux", "FactoredDims", "GradientTransformation",
    "GradientTransformationExtraArgs", "MultiSteps",
}  # fmt: skip


def states(folder: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Yield (class, module, fields) of every named tuple in a release's source."""
    for path in sorted(folder.rglob("*.py")):
        if path.stem.endswith("_test") or path.stem == "test_utils":
            continue
        module = ".".join(("optax", *path.relative_to(folder).with_suffix("").parts))
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.ClassDef) or node.name in APART:
                continue
            if any(ast.unparse(base).endswith("NamedTuple") for base in node.bases):
                named = (part.target for part in node.body if isinstance(part, ast.AnnAssign))
                yield node.name, module, [ast.unparse(name) for name in named]


def main() -> None:
    """Add what the given releases, or the installed one, have to the table."""
    table = json.loads(TABLE.read_text("utf-8")) if TABLE.exists() else {}
    folders = [Path(word) for word in sys.argv[1:]]
    if not folders:
        found = importlib.util.find_spec("optax")
        if found is None or found.origin is None:
            raise SystemExit("optax is not installed: python tools/bootstrap.py jax")
        folders = [Path(found.origin).parent]
    for folder in folders:
        for name, module, fields in states(folder):
            entry = table.setdefault(name, {"modules": [], "fields": ""})
            entry["modules"] = [m for m in entry["modules"] if m != module] + [module]
            known = entry["fields"].split()
            entry["fields"] = " ".join([*known, *(f for f in fields if f not in known)])
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n", "utf-8")
    print(f"{len(table)} states in {TABLE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
