"""The environments that workers run in: ``env ls`` and ``env prune``."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.output import Out, clean, day, human_bytes, out_options, table

if TYPE_CHECKING:
    from holdfast.environment.kept import Kept

__all__ = ["env"]


@click.group()
def env() -> None:
    """The environments of other times, rebuilt for versions that do not load here."""


@env.command("ls")
@out_options
def ls(out: Out) -> None:
    """List the environments in the cache, the one used last first."""
    from holdfast.api.settings import cache_folder
    from holdfast.environment import kept

    found = kept.kept(cache_folder())
    rows = [
        (
            each.key,
            each.python,
            ", ".join(each.requirements),
            human_bytes(each.size),
            day(_moment(each)) + (" (in use)" if each.busy else ""),
        )
        for each in found
    ]
    lines = table(("KEY", "PYTHON", "LIBRARIES", "SIZE", "USED"), rows) if rows else []
    out.data({"environments": list(map(_document, found))}, lines, [each.key for each in found])
    if not rows:
        out.talk(
            "No environment was built yet.\nTry: hold predict REF rows.csv --environment recorded"
        )


@env.command("prune")
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@out_options
def prune(out: Out, *, dry_run: bool) -> None:
    """Delete the environments that no worker uses now; they are built again when needed."""
    from holdfast.api.settings import cache_folder
    from holdfast.environment import kept

    gone, busy = kept.prune(cache_folder(), dry_run=dry_run)
    verb = "Would delete" if dry_run else "Deleted"
    size = human_bytes(sum(each.size for each in gone))
    lines = [f"{verb} {len(gone)} environments, {size}."]
    lines += [f"Kept {each.key}: a worker uses it." for each in busy]
    document = {
        "deleted": list(map(_document, gone)),
        "kept": list(map(_document, busy)),
        "dry_run": dry_run,
    }
    out.data(document, lines, [each.key for each in gone])


def _moment(each: Kept) -> str:
    return dt.datetime.fromtimestamp(each.used, tz=dt.UTC).isoformat(timespec="seconds")


def _document(each: Kept) -> dict[str, Any]:
    asked = [clean(text) for text in each.requirements]
    return {**each._asdict(), "requirements": asked, "used": _moment(each)}
