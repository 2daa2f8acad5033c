"""Freeing space: ``forget``, ``prune``, ``compact``, ``stats``."""

from __future__ import annotations

import click

from holdfast.cli.output import Out, day, human_bytes, out_options

__all__ = ["compact", "forget", "prune", "stats"]


@click.command()
@click.argument("refs", nargs=-1, required=True)
@click.option("--reason", help="Why; kept in the log.")
@click.option("--dry-run", is_flag=True, help="Only say what would be forgotten.")
@out_options
def forget(refs: tuple[str, ...], reason: str | None, out: Out, *, dry_run: bool) -> None:
    """Take versions out of sight; 'hold prune' then frees their bytes.

    Versions with an alias or a pin are kept.
    """
    from holdfast.api.history import forget as take_out

    gone = take_out(refs, reason=reason, dry_run=dry_run, store=out.store)
    names = [version.ref for version in gone]
    verb = "Would forget" if dry_run else "Forgot"
    out.data({"forgotten": names, "dry_run": dry_run}, [f"{verb} {', '.join(names)}"], names)
    if not dry_run:
        out.talk("Their bytes are still there.\nTry: hold prune --dry-run")


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be freed.")
@click.option(
    "--grace",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=3600.0,
    show_default=True,
    help="Keep unreferenced bytes used within this time; 0 only when nobody is saving.",
)
@out_options
def prune(out: Out, *, dry_run: bool, grace: float) -> None:
    """Free the bytes that no visible version needs."""
    from holdfast.api.housekeeping import prune as free

    done = free(dry_run=dry_run, grace=grace, store=out.store)
    verb = "Would free" if dry_run else "Freed"
    lines = [
        f"{verb} {human_bytes(done.freed)} in {done.blobs} blobs; {done.kept} blobs are needed."
    ]
    if done.young:
        lines.append(f"Kept {done.young} unreferenced blobs younger than {grace:g} s.")
    if done.checks:
        lines.append(f"{verb} what checks found of {done.checks} versions that are gone.")
    if done.waiting and done.until is not None:
        lines.append(
            f"Announced {done.waiting} blobs: 'hold prune' frees them after {day(done.until)} UTC, "
            "unless a writer needs them."
        )
    lines += [f"Kept {ref}: {why}" for ref, why in done.reasons.items()]
    out.data({**done._asdict(), "dry_run": dry_run}, lines, [str(done.freed)])


@click.command()
@click.argument("names", nargs=-1)
@click.option(
    "--keep",
    metavar="N",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Leave the newest N versions of each model as they are.",
)
@click.option("--undo", is_flag=True, help="Write everything plain again.")
@click.option("--dry-run", is_flag=True, help="Only say how many blobs would be looked at.")
@out_options
def compact(names: tuple[str, ...], keep: int, out: Out, *, undo: bool, dry_run: bool) -> None:
    """Keep the bytes of older versions compressed; loads decode them.

    Versions with an alias or a pin stay as they are, and so do the newest.
    """
    from holdfast.api.compacting import compact as work

    done = work(names, keep=keep, undo=undo, dry_run=dry_run, store=out.store)
    if dry_run:
        lines = [f"Would look at {done.blobs} blobs."]
    elif undo:
        lines = [f"Wrote {done.blobs} blobs plain; they occupy {human_bytes(-done.saved)} more."]
    else:
        lines = [f"Coded {done.blobs} blobs; saved {human_bytes(done.saved)}."]
    if done.plain:
        lines.append(f"Left plain: {', '.join(done.plain)}")
    out.data({**done._asdict(), "dry_run": dry_run}, lines, [str(done.saved)])


@click.command()
@out_options
def stats(out: Out) -> None:
    """Show what the store holds and what sharing saves."""
    from holdfast.api.housekeeping import stats as measure

    found = measure(store=out.store)
    ratio = f" ({found.logical / found.stored:.1f}x)" if found.stored else ""
    lines = [
        f"{found.versions} versions of {found.names} models",
        f"{human_bytes(found.logical)} logical, {human_bytes(found.stored)} stored{ratio}",
        f"{human_bytes(found.unreferenced)} unreferenced",
    ]
    if found.coded:
        lines.append(f"{human_bytes(found.saved)} saved by {found.coded} coded blobs")
    out.data(found._asdict(), lines, [str(found.stored)])
