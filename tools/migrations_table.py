"""Print the table of migrations that docs/migrations.md holds; a test compares the two."""

from __future__ import annotations

from holdfast.frameworks.sklearn.migrations import MIGRATIONS


def table() -> str:
    """Return the table in Markdown, one row for each step."""
    rows = ["| since | types | what changed | without the step | ways |", "|---|---|---|---|---|"]
    for step in MIGRATIONS:
        names = ", ".join(name.removeprefix("sklearn.") for name in step.types)
        up, down = step.forward or step.build, step.backward or step.restore
        ways = " ".join(word for word, there in (("up", up), ("down", down)) if there)
        rows.append(f"| {step.since} | {names} | {step.change} | {step.harm} | {ways} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
