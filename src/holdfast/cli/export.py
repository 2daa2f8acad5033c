"""Writing a version in a format of others."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from holdfast.cli.output import Out, out_options, table

__all__ = ["export"]

_TITLES: Final = ("format", "ending", "holds")


@click.command()
@click.argument("ref")
@click.argument("to", required=False, type=click.Path(path_type=Path))
@click.option("--format", "format_", metavar="NAME", help="Default: by the ending of TO.")
@out_options
def export(ref: str, to: Path | None, format_: str | None, out: Out) -> None:
    """Write a version to TO, a new file or folder, in a format that others read.

    Without TO: list the formats that this version can be written in. safetensors, npz and h5 hold
    the tensors; others are the framework's own: ubj, json, txt, cbm, keras, h5, savedmodel, onnx,
    pt2, folder (Hugging Face).
    """
    from holdfast.api.exporting import export as write, formats

    if to is None:
        found = formats(ref, store=out.store)
        rows = [(name, ending or "(folder)", words) for name, (ending, words) in found.items()]
        document = {"ref": ref, "formats": [dict(zip(_TITLES, row, strict=True)) for row in rows]}
        out.data(document, table([title.upper() for title in _TITLES], rows), found)
        example = next((ending for ending, _ in found.values() if ending), None)
        if example is not None:
            out.talk(f"Try: hold export {ref} model{example}")
        return
    path = write(ref, to, format=format_, store=out.store)
    out.data({"ref": ref, "path": str(path)}, [f"Wrote {path}"], [str(path)])
