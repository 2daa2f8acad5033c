"""Where things are: ``init``, ``where``, ``config``, ``completion``."""

from __future__ import annotations

from pathlib import Path

import click

from holdfast.cli.given import note
from holdfast.cli.output import Out, out_options, table

__all__ = ["completion", "config", "init", "where"]


@click.command()
@click.argument("path", required=False)
@out_options
def init(path: str | None, out: Out) -> None:
    """Make a store at PATH, a folder or s3://BUCKET/FOLDER (default: in the user's data folder).

    With a PATH, and when this folder has no holdfast.toml yet, one is written so that commands
    run from here find the store.
    """
    from holdfast.api.settings import PROJECT_FILE, project_file
    from holdfast.api.store import Store

    store = Store.create(path if path is not None else out.store)
    lines = [f"Store ready: {store.url}"]
    if path is not None and project_file() is None:
        here = Path.cwd()
        place = Path(store.url)
        inside = "://" not in store.url and place.is_relative_to(here)
        shown = place.relative_to(here).as_posix() if inside else store.url
        quoted = shown.replace("\\", "\\\\").replace('"', '\\"')
        Path(PROJECT_FILE).write_text(f'store = "{quoted}"\n', encoding="utf-8")
        lines.append(f"Wrote {PROJECT_FILE}: commands run from here use this store.")
    else:
        note(path)
    out.data({"store": store.url}, lines, [store.url])
    out.talk("Try: hold save model.safetensors --name my-model")


@click.command()
@out_options
def where(out: Out) -> None:
    """Print the place of the store in force, and why it is that one."""
    from holdfast.api.store import Store

    store = Store(out.store)
    out.data({"store": store.url, "origin": store.origin}, [store.url], [store.url])
    out.talk(f"chosen by: {store.origin}")


@click.command()
@click.argument("action", type=click.Choice(["show"]), default="show")
@click.option("--origin", is_flag=True, help="Say where each setting comes from.")
@out_options
def config(action: str, out: Out, *, origin: bool) -> None:  # noqa: ARG001 - one action so far
    """Show the settings in force: argument, HOLDFAST_* variable, holdfast.toml, default."""
    from holdfast.api.settings import settings

    found = settings()
    rows = [(s.name, s.value, s.origin) if origin else (s.name, s.value) for s in found]
    header = ("SETTING", "VALUE", "ORIGIN") if origin else ("SETTING", "VALUE")
    document = {s.name: {"value": s.value, "origin": s.origin} for s in found}
    out.data({"settings": document}, table(header, rows), [s.value for s in found])


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for SHELL.

    For bash: hold completion bash >> ~/.bashrc
    """
    from click.shell_completion import get_completion_class

    from holdfast.cli.main import cli

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"no completion for {shell}")
    for program in ("hold", "holdfast"):
        variable = f"_{program.upper()}_COMPLETE"
        click.echo(found(cli, {}, program, variable).source())
