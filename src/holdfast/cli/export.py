"""Writing a version in a format of others."""

from __future__ import annotations

from pathlib import Path

import click

from holdfast.cli.output import Out, out_options

__all__ = ["export"]


@click.command()
@click.argument("ref")
@click.argument("to", type=click.Path(path_type=Path))
@click.option("--format", "format_", metavar="NAME", help="Default: by the ending of TO.")
@out_options
def export(ref: str, to: Path, format_: str | None, out: Out) -> None:
    """Write a version to TO, a new file or folder, in a format that others read.

    safetensors and npz hold the tensors. Other formats are the framework's own: ubj, json, txt,
    cbm, keras, h5, savedmodel, onnx, folder (Hugging Face).
    """
    from holdfast.api.exporting import export as write

    path = write(ref, to, format=format_, store=out.store)
    out.data({"ref": ref, "path": str(path)}, [f"Wrote {path}"], [str(path)])
