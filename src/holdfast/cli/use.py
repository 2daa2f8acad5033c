"""Saving and predicting: the verbs that put models in and ask them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from holdfast.cli.output import Out, human_bytes, out_options
from holdfast.errors import UsageError

__all__ = ["predict", "save"]


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="The model's name.")
@click.option("--metric", "metrics", multiple=True, metavar="NAME=NUMBER")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE")
@click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE")
@click.option("--label", "labels", multiple=True, help="An output class, in order.")
@click.option("--parent", "parents", multiple=True, metavar="REF")
@click.option("--file", "files", multiple=True, type=click.Path(path_type=Path))
@click.option("--note", help="Free text.")
@click.option("--license", "license_", help="SPDX expression of the weights' licence.")
@click.option("--allow-secret", "allow", multiple=True, metavar="PLACE")
@out_options
def save(file: Path, out: Out, **given: Any) -> None:
    """Save FILE (safetensors, npz or ONNX) as a new version.

    What it is is decided by its content. A pickle is refused, exit status 6, and never opened.
    """
    from holdfast.api.save import save as keep

    if not file.is_file():
        raise UsageError(f"There is no file {file}.", hint=f"ls {file.parent}")
    version = keep(
        file,
        given["name"],
        metrics={key: _number(key, value) for key, value in _pairs(given["metrics"]).items()},
        params=_pairs(given["params"]),
        tags=_pairs(given["tags"]),
        labels=list(given["labels"]) or None,
        parents=given["parents"],
        files=list(given["files"]),
        note=given["note"],
        license=given["license_"],
        allow_secrets=given["allow"],
        store=out.store,
    )
    written = 0 if version.saved is None else version.saved.new_bytes
    twin = version.same_content_as
    lines = [
        f"Saved {version.ref}  {human_bytes(version.size)} ({human_bytes(written)} new)",
        f"  golden set {version.facts()['golden set']}; proof: {version.proof}",
    ]
    if twin is not None:
        lines.append(f"  same content as {twin}; nothing was copied")
    if version.healed:
        lines.append(f"  {version.healed} damaged blobs in the store were written anew")
    document = {
        "healed": version.healed,
        "ref": version.ref, "content_id": version.content_id, "record_id": version.record_id,
        "size": version.size, "new_bytes": written, "proof": version.proof, "same_as": twin,
        "store": version.store.url,
    }  # fmt: skip
    out.data(document, lines, [version.ref])
    out.talk(f"In the store {version.store.url}\nTry: hold show {version.ref}")


def _pairs(words: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise click.UsageError(f"{word!r} is not NAME=VALUE")
        pairs[key] = value
    return pairs


def _number(key: str, value: str) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise click.UsageError(f"--metric {key}={value}: not a number") from error


@click.command()
@click.argument("ref")
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--environment",
    type=click.Choice(("auto", "here", "portable", "recorded")),
    default="auto",
    show_default=True,
    help="Under the libraries here, as its portable form, under those of its time; auto: in turn.",
)
@out_options
def predict(ref: str, data: Path, out: Out, *, environment: str) -> None:
    """Answer for the rows of DATA, a CSV file with a header; '-' reads stdin.

    Columns are reordered by name to match training, or refused; never guessed.
    """
    from holdfast.api.history import get
    from holdfast.cli.rows import read_csv

    version = get(ref, store=out.store)
    predictor = version.predictor(environment=environment)
    rows = read_csv(data, predictor.signature.get("inputs", {}))
    answers = predictor.named(predictor.predict(rows))
    for note in predictor.notes:
        out.talk(note)
    lines = ["prediction", *(_csv_line(answer) for answer in answers)]
    document = {"ref": version.ref, "predictions": answers}
    out.data(document, lines, (_csv_line(answer) for answer in answers))


def _csv_line(answer: Any) -> str:
    values = answer if isinstance(answer, list) else [answer]
    return ",".join(str(value) for value in values)
