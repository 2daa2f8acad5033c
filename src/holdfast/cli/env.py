"""The environments that workers run in: ``env ls``, ``lock``, ``bundle`` and ``prune``."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
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
            ", ".join(each.requirements) + (" (locked)" if each.locked else ""),
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


@env.command("lock")
@click.argument("ref")
@out_options
def lock(ref: str, out: Out) -> None:
    """Note beside REF the digests of every wheel that its recorded environment needs.

    The package index is asked for what it had when the version was saved. From then on, nothing
    else is installed for it.
    """
    from holdfast.api.environments import lock as make

    version = make(ref, store=out.store)
    state = version.info.attachments["pylock"]
    document = {"ref": version.ref, "blob": state.blob, "size": state.size, "at": state.at}
    out.data(document, [f"Locked {version.ref}: pylock.toml is {state.blob}."], [state.blob])


@env.command("bundle")
@click.argument("refs", nargs=-1, required=True)
@click.option("--to", "folder", required=True, type=click.Path(path_type=Path), help="A folder.")
@out_options
def bundle(refs: tuple[str, ...], folder: Path, out: Out) -> None:
    """Collect the wheels of the environments of REFS, for a machine without a network.

    They are for this kind of machine, and checked against the lock, which is made where there is
    none.
    """
    from holdfast.api.environments import bundle as make

    done = make(refs, folder, store=out.store)
    lines = [f"{len(done.wheels)} wheels, {human_bytes(done.size)}, are in {folder}."]
    document = {"folder": str(folder), "wheels": list(done.wheels), "size": done.size}
    out.data(document, lines, list(done.wheels))
    words = f"hold predict {refs[0]} rows.csv --environment recorded"
    out.talk(f"Try: HOLDFAST_WHEELHOUSE={folder} {words}")


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
