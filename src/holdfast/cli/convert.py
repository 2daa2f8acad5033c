"""Taking over foreign files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import click

from holdfast.cli.output import Out, clean, out_options, table
from holdfast.errors import HoldfastError, PartlyDone, UnsafeContent, UsageError

__all__ = ["convert"]

_MOST_NOTES: Final = 3
_USUAL: Final = "read as data"


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--name", help="The model's name; for several files each gets its own file's name.")
@click.option("--note", help="Free text.")
@click.option("--sandbox", is_flag=True, help="Run what cannot be read as data, shut in.")
@click.option(
    "--portable",
    type=click.Choice(("auto", "onnx", "torch.export", "none")),
    default="auto",
    show_default=True,
    help="A form that answers without the model's library: where quick, always, or never.",
)
@out_options
def convert(paths: tuple[Path, ...], name: str | None, out: Out, **given: Any) -> None:
    """Take over each of PATHS, files or folders of them, as a version; nothing in them is run.

    With --sandbox a file that is more than data is opened in a process without network, with one
    folder to write in and limits of memory and time; what comes out is taken over as data.

    Exit status 3 when some were not taken over, 6 when the one given was refused as unsafe.
    """
    from holdfast.api.converting import convert as take

    given["portable"] = None if given["portable"] == "none" else given["portable"]
    files = [file for path in paths for file in _files(path)]
    if name is not None and len(files) != 1:
        raise UsageError(
            f"--name is for one file; there are {len(files)}.",
            hint=f"hold convert {paths[0]}  # names them after the files",
        )
    rows: list[dict[str, Any]] = []
    failed: list[HoldfastError] = []
    for file, own in zip(files, _names(files), strict=True):
        try:
            version = take(file, name or own, store=out.store, **given)
        except HoldfastError as error:
            failed.append(error)
            rows.append({"file": str(file), "error": error.code, "message": error.message})
            continue
        origin = version.record.params["converted_from"]
        row = {"file": str(file), "ref": version.ref, "proof": version.proof, "how": origin["how"]}
        rows.append({**row, "notes": origin["notes"]})
    if len(files) == 1 and failed:
        raise failed[0]
    lines = table(["FILE", "VERSION", "PROOF OR REASON"], map(_row, rows))
    out.data({"converted": rows}, lines, (row["ref"] for row in rows if "ref" in row))
    for row in rows:
        for said in row.get("notes", ())[:_MOST_NOTES]:
            out.talk(clean(f"{row['file']}: {said}"))
    if failed:
        raise _summary(paths[0], len(files), failed)


def _summary(path: Path, count: int, failed: list[HoldfastError]) -> HoldfastError:
    """Return the error that says how many files were not taken over, and what to do about it."""
    refused = all(isinstance(each, UnsafeContent) for each in failed)
    kind = PartlyDone if len(failed) < count else UnsafeContent if refused else HoldfastError
    further = any("--sandbox" in each.hint for each in failed)
    return kind(
        f"{len(failed)} of {count} files were not taken over; the table says why.",
        hint=f"hold scan {path}"
        + (f"\nhold convert {path} --sandbox  # runs the unsafe ones, shut in" if further else ""),
    )


def _files(path: Path) -> list[Path]:
    """Return the files below a folder, and the folders that are one model each."""
    from holdfast.api.scanning import scan

    if not path.is_dir():
        return [path]
    if scan(path).kind != "folder":
        return [path]
    found: list[Path] = []
    for inner in sorted(path.iterdir()):
        if inner.is_symlink():
            continue
        if inner.is_dir():
            found += _files(inner)
        elif inner.is_file():
            found.append(inner)
    return found


def _names(files: list[Path]) -> list[str]:
    """Name models after their files; with the ending where two files would get one name."""
    short = [_name(file.stem) for file in files]
    return [
        name if short.count(name) == 1 else _name(file.name.replace(".", "-"))
        for file, name in zip(files, short, strict=True)
    ]


def _name(text: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:100] or "model"


def _row(row: dict[str, Any]) -> list[str]:
    if "ref" in row:
        told = row["proof"] if row["how"] == _USUAL else f"{row['proof']}, {row['how']}"
        return [row["file"], row["ref"], told]
    said = row["message"].splitlines()[0].replace(f"{row['file']}: ", "")
    said = said.removeprefix(f"{row['file']} ")
    kind = re.match(r"\((.+?)\): ", said)  # as ``rescue.taken.naming`` puts it before what it says
    return [row["file"], "-", said if kind is None else f"{kind[1]}: {said[kind.end() :]}"]
