"""Versions between stores, and to and from registries: ``push`` and ``pull``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from holdfast.cli.output import Out, human_bytes, out_options

__all__ = ["pull", "push"]


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what ``push`` and ``pull`` share."""
    for option in (
        click.option(
            "--history", is_flag=True, help="The whole log of each name: numbers, aliases, times."
        ),
        click.option("--aliases", is_flag=True, help="The aliases of these versions, too."),
        click.option("--dry-run", is_flag=True, help="Only say what would be sent."),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("refs", nargs=-1, required=True)
@click.argument("to")
@click.option(
    "--layout",
    type=click.Choice(["blobs", "files"]),
    help="In a registry: a layer for each blob, or files for programs that mount them.",
)
@_options
@out_options
def push(refs: tuple[str, ...], to: str, layout: str | None, out: Out, **chosen: bool) -> None:
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
@out_options
def pull(refs: tuple[str, ...], source: str, out: Out, **chosen: bool) -> None:
    """Copy versions from the store FROM into the one in force.

    Or one version from a registry: oci://HOST/REPOSITORY:TAG, and the NAME it gets.
    """
    from holdfast.api import sending
    from holdfast.api.settings import store_setting

    to = store_setting(out.store).value
    done = sending.pull(refs or source, source if refs else None, to, **chosen)
    _tell(done, out, f"hold pull REFS {source} --store {done.to}", dry_run=chosen["dry_run"])


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
    document = {**done._asdict(), "dry_run": dry_run}
    document["versions"] = [item._asdict() for item in done.versions]
    out.data(document, lines, [item.there or item.ref for item in done.versions])
    if done.failed:
        raise partly_done(done, again)
