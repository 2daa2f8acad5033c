"""Write the README's table of frameworks from what tests have proven, or check it.

A test marked ``keeps(framework, what, *packages)`` that passes proves a part of a row; ``make
test`` and ``make test-fw`` note down what was proven, see ``conftest.py``. ::

    make table
    python tools/frameworks_table.py --check .venv/kept .venvs/*/kept

Rows of frameworks of which nothing was noted down stay as they are, so a check may follow a run of
any of them.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"
PLACE = re.compile(r"(<!-- frameworks: make table -->\n).*?(?=<!-- frameworks end -->)", re.DOTALL)
HEAD = "| framework | what a passing test brought back whole | with |\n|---|---|---|\n"
ROW = re.compile(r"^\| (.+?) \| (.+) \| (.*?) \|$", re.MULTILINE)

Rows = dict[str, tuple[str, str]]


def proven(paths: Iterable[str]) -> Rows:
    """Return framework to what was proven of it and the packages it was proven with."""
    parts: dict[str, set[str]] = {}
    packages: dict[str, dict[str, str]] = {}
    for path in filter(Path.is_file, map(Path, paths)):
        for line in path.read_text("utf-8").splitlines():
            framework, what, versions = json.loads(line)
            parts.setdefault(framework, set()).add(what)
            packages.setdefault(framework, {}).update(versions)
    return {
        name: ("; ".join(sorted(parts[name])), ", ".join(map(" ".join, packages[name].items())))
        for name in parts
    }


def main() -> None:
    """Write the table, or say what differs from it."""
    check = sys.argv[1:2] == ["--check"]
    found = proven(sys.argv[1 + check :])
    text = README.read_text("utf-8")
    place = PLACE.search(text)
    if place is None:
        raise SystemExit("README.md lacks the place of the table")
    listed: Rows = {
        row[1]: (row[2], row[3]) for row in ROW.finditer(place[0].partition("---|\n")[2])
    }
    if check:
        wrong = [name for name, (what, _) in found.items() if listed.get(name, ("",))[0] != what]
        if wrong:
            raise SystemExit(f"README.md tells otherwise of {', '.join(wrong)}. Try: make table")
        return
    merged = sorted({**listed, **found}.items(), key=lambda row: row[0].lower())
    table = HEAD + "".join(f"| {name} | {what} | {with_} |\n" for name, (what, with_) in merged)
    README.write_text(PLACE.sub(lambda at: at[1] + table, text), "utf-8")


if __name__ == "__main__":
    main()
