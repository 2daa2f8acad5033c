"""Taking over foreign files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from holdfast.cli.output import Out, out_options, table
from holdfast.errors import HoldfastError, PartlyDone, UnsafeContent, UsageError

__all__ = ["convert"]


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--name", help="The model's name; for several files each gets its own file's name.")
@click.option("--note", help="Free text.")
@out_options
def convert(paths: tuple[Path, ...], name: str | None, note: str | None, out: Out) -> None:
    """Take over each of PATHS, files or folders of them, as a version; nothing in them is run.

    Exit status 3 when some were not taken over, 6 when the one given was refused as unsafe.
    """
    from holdfast.api.converting import convert as take

    files = [file for path in paths for file in _files(path)]
    if name is not None and len(files) != 1:
        raise UsageError(
            f"--name is for one file; there are {len(files)}.",
            hint=f"hold convert {paths[0]}  # names them after the files",
        )
    rows: list[dict[str, Any]] = []
    failed: list[HoldfastError] = []
    for file in files:
        try:
            version = take(file, name or _name(file), note=note, store=out.store)
        except HoldfastError as error:
            failed.append(error)
            rows.append({"file": str(file), "error": error.code, "message": error.message})
        else:
            rows.append({"file": str(file), "ref": version.ref, "proof": version.proof})
    if len(files) == 1 and failed:
        raise failed[0]
    lines = table(["FILE", "VERSION", "PROOF OR REASON"], map(_row, rows))
    out.data({"converted": rows}, lines, (row["ref"] for row in rows if "ref" in row))
    if not failed:
        return
    refused = all(isinstance(each, UnsafeContent) for each in failed)
    kind = PartlyDone if len(failed) < len(files) else UnsafeContent if refused else HoldfastError
    raise kind(
        f"{len(failed)} of {len(files)} files were not taken over; the table says why.",
        hint=f"hold scan {paths[0]}",
    )


# A folder with one of these is one model, not a shelf of files.
_ONE_MODEL = ("config.json", "modules.json", "adapter_config.json")


def _files(path: Path) -> list[Path]:
    if path.is_dir() and not any((path / name).is_file() for name in _ONE_MODEL):
        return sorted(file for file in path.iterdir() if file.is_file() and not file.is_symlink())
    return [path]


def _name(file: Path) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", file.stem.lower()).strip("-._") or "model"


def _row(row: dict[str, Any]) -> list[str]:
    if "ref" in row:
        return [row["file"], row["ref"], row["proof"]]
    return [row["file"], "-", row["message"].splitlines()[0]]
