"""Write the README's table of frameworks from what the tests have proven.

::

    HOLDFAST_KEPT=/tmp/light .venv/bin/python -m pytest tests/frameworks -m keeps
    HOLDFAST_KEPT=/tmp/keras .venvs/keras/bin/python -m pytest tests/frameworks/test_keras*.py
    python tools/frameworks_table.py .venv=/tmp/light .venvs/keras=/tmp/keras
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACE = re.compile(r"(<!-- frameworks: by tools/frameworks_table.py -->\n).*?(?=\n<!--)", re.DOTALL)


def versions(environment: str, packages: list[str]) -> str:
    """Return the installed versions of packages in an environment, as one text."""
    code = (
        "import sys\nfrom holdfast.environment.capture import capture\n"
        "found = capture(sys.argv[1:])['packages']\n"
        "own = ('numpy', 'holdfast-ml')\n"
        "print(', '.join(f'{n} {v}' for n, v in found.items() if n not in own))"
    )
    python = ROOT / environment / "bin" / "python"
    words = [str(python), "-c", code, *packages]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    """Rewrite the table."""
    rows: dict[str, dict[str, None]] = {}
    tested: dict[str, str] = {}
    for word in sys.argv[1:]:
        environment, _, path = word.partition("=")
        for line in Path(path).read_text("utf-8").splitlines():
            framework, what, *packages = json.loads(line)
            rows.setdefault(framework, {})[what] = None
            if packages:
                tested.setdefault(framework, versions(environment, packages))
    lines = ["| framework | what is kept | tested with |", "|---|---|---|"]
    for framework in sorted(rows, key=str.lower):
        kept = "; ".join(rows[framework])
        lines.append(f"| {framework} | {kept} | {tested.get(framework, '')} |")
    readme = ROOT / "README.md"
    text = readme.read_text("utf-8")
    again, count = PLACE.subn(lambda found: found[1] + "\n".join(lines), text)
    if count != 1:
        raise SystemExit("README.md lacks the place of the table")
    readme.write_text(again, "utf-8")


if __name__ == "__main__":
    main()
