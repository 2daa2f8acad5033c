"""Names for versions: ``promote``, ``rollback``, ``tag``, ``pin``."""

from __future__ import annotations

import click

from holdfast.cli.output import Out, out_options

__all__ = ["pin", "promote", "rollback", "tag"]


@click.command()
@click.argument("ref")
@click.option("--to", "alias", default="prod", show_default=True, help="The alias.")
@click.option("--reason", help="Why; kept in the log.")
@click.option("--remove", is_flag=True, help="Take the alias away instead.")
@out_options
def promote(ref: str, alias: str, reason: str | None, out: Out, *, remove: bool) -> None:
    """Point an alias at a version; the log keeps what it replaced."""
    from holdfast.api.history import get, promote as move, unalias

    if remove:
        name = ref.partition("@")[0]
        unalias(name, alias, reason=reason, store=out.store)
        out.data({"name": name, "alias": alias, "ref": None}, [f"{name}: no {alias} now"], [])
        return
    before = get(ref, store=out.store)
    had = alias in before.store.catalogue.history(before.name).aliases
    version = move(ref, to=alias, reason=reason, store=before.store)
    document = {"ref": version.ref, "alias": alias}
    out.data(document, [f"{alias} = {version.ref}"], [version.ref])
    if had:
        out.talk(f"Undo: hold rollback {version.name} --alias {alias}")


@click.command()
@click.argument("name")
@click.option("--alias", default="prod", show_default=True, help="The alias.")
@click.option("--reason", help="Why; kept in the log.")
@out_options
def rollback(name: str, alias: str, reason: str | None, out: Out) -> None:
    """Point an alias back at the version it named before."""
    from holdfast.api.history import rollback as back

    version = back(name, alias=alias, reason=reason, store=out.store)
    document = {"ref": version.ref, "alias": alias}
    out.data(document, [f"Rolled back: {alias} = {version.ref}"], [version.ref])


@click.command()
@click.argument("ref")
@click.argument("words", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--remove", multiple=True, metavar="KEY", help="Remove a tag.")
@out_options
def tag(ref: str, words: tuple[str, ...], remove: tuple[str, ...], out: Out) -> None:
    """Set or remove tags of a version; without arguments, show them."""
    from holdfast.api.history import get, tag as set_tags

    given = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise click.UsageError(f"{word!r} is not KEY=VALUE")
        given[key] = value
    if given or remove:
        version = set_tags(ref, given, remove=remove, store=out.store)
    else:
        version = get(ref, store=out.store)
    tags = dict(version.info.tags)
    lines = [f"{key}={value}" for key, value in sorted(tags.items())]
    out.data({"ref": version.ref, "tags": tags}, lines, [version.ref])


@click.command()
@click.argument("ref")
@click.option("--until", metavar="DATE", help="Last day of the hold; default: for ever.")
@click.option("--reason", help="Why; kept in the log.")
@click.option("--release", is_flag=True, help="End the hold.")
@out_options
def pin(ref: str, until: str | None, reason: str | None, out: Out, *, release: bool) -> None:
    """Keep a version from being forgotten, for ever or until a date (a legal hold)."""
    from holdfast.api.history import pin as hold

    version = hold(ref, until=until, reason=reason, release=release, store=out.store)
    if release:
        words = f"Released {version.ref}"
    else:
        words = f"Pinned {version.ref} {'until ' + until if until else 'for ever'}"
    document = {"ref": version.ref, "pinned": not release, "until": until}
    out.data(document, [words], [version.ref])
