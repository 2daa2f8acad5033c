"""Saving, verifying and predicting: the verbs that touch a model's bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from holdfast.cli.output import Out, human_bytes, out_options
from holdfast.errors import Corrupt, HoldfastError, UsageError, VerificationError

__all__ = ["predict", "save", "verify"]


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
        "store": str(version.store.path),
    }  # fmt: skip
    out.data(document, lines, [version.ref])
    out.talk(f"In the store {version.store.path}\nTry: hold show {version.ref}")


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
@click.argument("refs", nargs=-1)
@click.option("--no-replay", is_flag=True, help="Only hash; needs no framework.")
@out_options
def verify(refs: tuple[str, ...], out: Out, *, no_replay: bool) -> None:
    """Hash every blob, check the log's chain and replay the golden set, now.

    Without REFS: every version in the store. Exit status 4 when anything differs.
    """
    from holdfast.api.housekeeping import verify as prove
    from holdfast.api.store import the_store

    store = the_store(out.store)
    found: list[dict[str, Any]] = []
    failed: list[HoldfastError] = []
    chosen = list(refs)
    for model in store.catalogue.names() if not refs else ():
        if model.damage is None:
            chosen += [f"{v.name}@v{v.number}" for v in store.catalogue.versions(model.name)]
            continue
        chosen.append(model.name)
        failed.append(Corrupt(model.damage, ref=model.name))
        found.append({"ref": model.name, "error": Corrupt.code, "message": model.damage})
    for ref in chosen:
        if any(item["ref"] == ref for item in found):
            continue
        try:
            good = prove(ref, replay=not no_replay, store=store)
        except HoldfastError as error:
            failed.append(error)
            found.append({"ref": ref, "error": error.code, "message": error.message})
        else:
            found.append({**good._asdict(), "ref": good.ref})
    if failed and len(chosen) == 1 and not out.as_json:
        raise failed[0]
    lines = [_verified_line(item) for item in found]
    out.data({"verified": found}, lines, [i["ref"] for i in found if "error" not in i])
    if not failed:
        return
    if len(chosen) == 1:
        raise failed[0]
    differing = [error for error in failed if isinstance(error, VerificationError)]
    worst = differing[0] if differing else failed[0]
    raise type(worst)(
        f"{len(failed)} of {len(chosen)} versions did not verify; the first: {worst.message}",
        hint=worst.hint,
    )


def _verified_line(item: dict[str, Any]) -> str:
    if "error" in item:
        return f"{item['ref']}  FAILED  {item['message'].splitlines()[0]}"
    size = human_bytes(item["size"])
    return f"{item['ref']}  hashes ok ({item['blobs']} blobs, {size})  {item['detail']}"


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
