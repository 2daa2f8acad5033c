"""Versions between stores, registries and files: ``push``, ``pull``, ``bundle``, ``unbundle``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from holdfast.cli.output import Out, clean, human_bytes, out_options

__all__ = ["bundle", "pull", "push", "unbundle"]


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what copies share: what goes with the versions."""
    history = "The whole log of each name: numbers, aliases, times."
    command = click.option("--history", is_flag=True, help=history)(command)
    return click.option("--aliases", is_flag=True, help="The aliases of these versions, too.")(
        command
    )


_dry_run = click.option("--dry-run", is_flag=True, help="Only say what would be sent.")


@click.command()
@click.argument("refs", nargs=-1, required=True)
@click.argument("to")
@click.option(
    "--layout",
    type=click.Choice(["blobs", "files"]),
    help="In a registry: a layer for each blob, or files for programs that mount them.",
)
@_options
@_dry_run
@out_options
def push(refs: tuple[str, ...], to: str, layout: str | None, out: Out, **chosen: Any) -> None:
    """Copy versions into the store TO: a folder, s3://, gs:// or az://.

    Or one version to a registry, oci://HOST/REPOSITORY:TAG. What is there is not sent again, so
    that a push that was cut goes on where it was.
    """
    from holdfast.api import sending
    from holdfast.api.store import Store

    here = Store(out.store)
    done = sending.push(refs, here, to, layout=layout, **chosen)
    _tell(done, out, f"hold push REFS {done.to} --store {here.url}", dry_run=chosen["dry_run"])


@click.command()
@click.argument("refs", nargs=-1)
@click.argument("source", metavar="FROM")
@_options
@_dry_run
@out_options
def pull(refs: tuple[str, ...], source: str, out: Out, **chosen: Any) -> None:
    """Copy versions from the store FROM into the one in force.

    Or one version from a registry: oci://HOST/REPOSITORY:TAG, and the NAME it gets.
    """
    from holdfast.api import sending
    from holdfast.api.settings import store_setting

    to = store_setting(out.store).value
    done = sending.pull(refs or source, source if refs else None, to, **chosen)
    _tell(done, out, f"hold pull REFS {source} --store {done.to}", dry_run=chosen["dry_run"])


@click.command()
@click.argument("refs", nargs=-1, required=True)
@click.argument("file", metavar="FILE.hold")
@_options
@out_options
def bundle(refs: tuple[str, ...], file: str, out: Out, **chosen: bool) -> None:
    """Write versions to one file, which loads where it lies: FILE.hold:NAME@v3.

    It is an OCI image layout in a tar, which skopeo and oras read.
    """
    from holdfast.api.store import Store

    done = Store(out.store).bundle(refs, file, **chosen)
    lines = [f"Wrote {human_bytes(done.size)} in {done.blobs} blobs to {done.path}"]
    lines += [f"{ref} is in it" for ref in done.versions]
    out.data(done._asdict(), lines, done.versions)
    out.talk(f"Try: hold show {file}:{done.versions[0]}")


@click.command()
@click.argument("file", metavar="FILE.hold")
@_options
@_dry_run
@out_options
def unbundle(file: str, out: Out, **chosen: bool) -> None:
    """Copy all versions of a bundle into the store; what is there already is not copied again."""
    from holdfast.api.bundles import unbundle as take_in
    from holdfast.api.settings import store_setting

    done = take_in(file, store_setting(out.store).value, **chosen)
    again = f"hold pull REFS {file} --store {done.to}"
    _tell(done, out, again, dry_run=chosen["dry_run"])


def _tell(done: Any, out: Out, again: str, *, dry_run: bool) -> None:
    from holdfast.api.transferring import partly_done

    verb = "Would send" if dry_run else "Sent"
    shared = f"; {human_bytes(done.shared)} are there already" if done.shared else ""
    lines = [f"{verb} {human_bytes(done.size)} in {done.blobs} blobs to {done.to}{shared}"]
    for item in done.versions:
        if item.there is None:
            lines.append(f"{item.ref} would be sent")
        elif item.there == item.ref:
            lines.append(f"{item.ref} is {'there' if item.new else 'there already'}")
        else:
            lines.append(f"{item.ref} is {item.there} there" + ("" if item.new else " already"))
    lines += done.aliases
    if done.checks:
        lines.append(f"{done.checks} results of checks went along")
    document = {**done._asdict(), "dry_run": dry_run}
    document["versions"] = [item._asdict() for item in done.versions]
    out.data(document, lines, [item.there or item.ref for item in done.versions])
    for note in done.notes:
        out.talk(clean(note))
    if done.failed:
        raise partly_done(done, again)
