"""Whether what is kept still stands: ``verify`` and ``ageing``."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from holdfast.cli.output import Out, clean, human_bytes, out_options, say
from holdfast.errors import BehaviourMismatch, Corrupt, HoldfastError, VerificationError

if TYPE_CHECKING:
    from holdfast.api.fixity import Fixity
    from holdfast.api.verifying import Verified

__all__ = ["ageing", "verify"]

_BAD: Final = ("damaged", "refused", "failed")


@click.command()
@click.argument("refs", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every version; so does naming none.")
@click.option(
    "--sample", metavar="N|N%", help="Only so many of all, those longest unchecked: 20 or 10%."
)
@click.option("--no-replay", is_flag=True, help="Only hash; needs no framework.")
@out_options
def verify(
    refs: tuple[str, ...], out: Out, *, everything: bool, sample: str | None, no_replay: bool
) -> None:
    """Hash every blob, check the log's chain and replay the golden set, now.

    Without REFS: all versions of the store, those first that were not checked for longest. When
    that is interrupted, the same command goes on within a day. What is found is kept in the store
    for 'hold ageing'. Exit status 4 when anything differs or is damaged.
    """
    if refs and (everything or sample):
        raise click.UsageError("--all and --sample are for the whole store; name no REFS")
    if refs:
        _verify_named(refs, out, replay=not no_replay)
    else:
        _verify_all(out, sample, replay=not no_replay)


def _verify_named(refs: Sequence[str], out: Out, *, replay: bool) -> None:
    from holdfast.api.refs import in_bundle
    from holdfast.api.store import the_store
    from holdfast.api.verifying import failure, verify as prove
    from holdfast.archive.read import Checked

    store = None if all(map(in_bundle, refs)) else the_store(out.store)
    found: list[Verified] = []
    errors: list[HoldfastError] = []
    for ref in refs:
        try:
            found.append(prove(ref, replay=replay, store=store))
        except HoldfastError as error:
            if len(refs) == 1 and not out.as_json:
                raise
            errors.append(error)
            found.append(failure(ref, Checked(0, 0), error))
    _print(out, found, {})
    if len(refs) == 1 and errors:
        raise errors[0]
    differing = [error for error in errors if isinstance(error, VerificationError)]
    for worst in (differing or errors)[:1]:
        raise type(worst)(
            f"{len(errors)} of {len(refs)} versions did not verify; the first: {worst.message}",
            hint=worst.hint,
        )


def _verify_all(out: Out, sample: str | None, *, replay: bool) -> None:
    from holdfast.api.fixity import verify_all
    from holdfast.api.progress import counting
    from holdfast.api.store import the_store

    store = the_store(out.store)
    found: list[Verified] = []
    total = 0
    with counting("verifying", shown=not (out.quiet or out.as_json)) as move:

        def told(each: Verified, done: int, of: int) -> None:
            nonlocal total
            total = of
            found.append(each)
            move(clean(each.ref), done, of)

        try:
            run = verify_all(store, sample=sample, replay=replay, told=told)
        except KeyboardInterrupt:
            run = None
    if run is None:
        _print(out, found, {"interrupted": True})
        again = f"hold verify --sample {sample}" if sample else "hold verify --all"
        say(f"Interrupted after {len(found)} of {total} versions; what was found is kept.")
        say(f"Try: {again}{'' if replay else ' --no-replay'}  # goes on")
        click.get_current_context().exit(130)
    _print(out, run.verified, {"earlier": run.earlier, "versions": run.versions})
    _conclude(out, run)


def _print(out: Out, found: Sequence[Verified], more: dict[str, Any]) -> None:
    documents = [
        {"ref": each.ref, "error": each.error, "message": each.detail, "proof": each.proof}
        if each.error
        else each._asdict()
        for each in found
    ]
    unrecorded = next((each.unrecorded for each in found if each.unrecorded), "")
    lines = [line for each in found for line in _lines(each)]
    sound = [each.ref for each in found if each.proof not in _BAD]
    out.data({"verified": documents, **more, "unrecorded": unrecorded}, lines, sound)
    if unrecorded:
        out.talk(f"Nothing was recorded: {clean(unrecorded)}")


def _lines(found: Verified) -> list[str]:
    sizes = f"hashes ok ({found.blobs} blobs, {human_bytes(found.size)})"
    words = clean(" ".join(found.detail.split()))
    if found.proof in _BAD:
        words = words.removeprefix("REFUSED: ")
        line = f"{found.ref}  {found.proof.upper()}  {words}"
    else:
        line = f"{found.ref}  {sizes}  {words}"
    return _wrapped(clean(line), "  ")


def _wrapped(text: str, indent: str) -> list[str]:
    """Break a line for a terminal; a pipe gets it whole."""
    if not sys.stdout.isatty():
        return [text]
    width = max(40, shutil.get_terminal_size().columns)
    return textwrap.wrap(text, width, subsequent_indent=indent, break_on_hyphens=False)


def _conclude(out: Out, run: Fixity) -> None:
    if run.earlier:
        out.talk(
            f"{run.earlier} of {run.versions} versions were checked before the interruption that "
            "this run goes on after."
        )
    if not run.verified and not run.versions:
        out.talk("There is nothing to verify.\nTry: hold save model.safetensors --name NAME")
    hashed = sum(each.proof == "unproved" and "skipped" not in each.detail for each in run.verified)
    if hashed:
        out.talk(f"{hashed} versions were only hashed, for they are not built here.")
    bad = [each for each in run.verified if each.proof in _BAD]
    if not bad:
        return
    worst = min(bad, key=lambda each: _BAD.index(each.proof))
    kinds = {"damaged": Corrupt, "refused": BehaviourMismatch, "failed": HoldfastError}
    raise kinds[worst.proof](
        f"{len(bad)} of {len(run.verified)} versions did not verify; "
        f"the worst: {worst.ref}: {worst.detail}",
        hint="hold ageing  # what to do about each",
    )


@click.command()
@click.option(
    "--all", "everything", is_flag=True, help="Also versions without an alias that are not newest."
)
@out_options
def ageing(out: Out, *, everything: bool) -> None:
    """Name the versions that need attention, what to do, and what was checked where.

    Reads the log, the records and what 'hold verify' has kept. Nothing of a model is run and no
    framework is imported.
    """
    from holdfast.api.store import the_store
    from holdfast.cli.ageing_pages import pages

    found = the_store(out.store).ageing(everything=everything)
    lines = [clean(line) for line in pages(found)]
    out.data(found.document(), lines, dict.fromkeys(each.ref for each in found.concerns))
    if found.ignored:
        out.talk(f"{found.ignored} check documents were passed over: they are damaged or forged.")
    if not found.versions:
        out.talk("There is nothing to look at.\nTry: hold save model.safetensors --name NAME")
    elif not found.environments:
        out.talk("Nothing was checked yet.\nTry: hold verify --all")
