"""The entry point: finds a verb's module, and turns errors into words and exit codes."""

from __future__ import annotations

import difflib
import os
import sys
import traceback
from importlib import import_module
from typing import Final

import click

from holdfast.cli.given import complete, forget
from holdfast.cli.output import clean
from holdfast.errors import HoldfastError

__all__ = ["cli", "main"]

# Verb to the module that defines a click command of the same name.
_VERBS: Final = {
    "ageing": "fixity",
    "bundle": "transfer",
    "compact": "clean",
    "completion": "setup",
    "config": "setup",
    "convert": "convert",
    "diff": "look",
    "env": "env",
    "export": "export",
    "forget": "clean",
    "init": "setup",
    "log": "look",
    "ls": "look",
    "pin": "name",
    "predict": "use",
    "preflight": "look",
    "promote": "name",
    "prune": "clean",
    "pull": "transfer",
    "push": "transfer",
    "rollback": "name",
    "save": "use",
    "scan": "scan",
    "show": "look",
    "stats": "clean",
    "tag": "name",
    "unbundle": "transfer",
    "verify": "fixity",
    "where": "setup",
}


class _Verbs(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        home = _VERBS.get(cmd_name)
        if home is None:
            return None
        command: click.Command = getattr(import_module(f"holdfast.cli.{home}"), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in _VERBS:
            near = difflib.get_close_matches(args[0], _VERBS, 1)
            _fail(f"There is no verb {args[0]!r}.", f"hold {near[0] if near else '--help'}")
            ctx.exit(2)
        return super().resolve_command(ctx, args)


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show a Python traceback with an error.")
@click.version_option(package_name="holdfast-ml", prog_name="holdfast")
@click.pass_context
def cli(ctx: click.Context, *, debug: bool) -> None:
    """Keep machine-learning models: saved without pickle, proven at every load.

    A reference is NAME (the newest version), NAME@v3, NAME@ALIAS or NAME@sha256:DIGEST, or one of
    them in a bundle: FILE.hold:NAME@v3.
    Answers go to stdout, talk to stderr; every command takes --json and -q.

    Exit status: 0 done, 1 failed, 2 usage, 3 partly done, 4 verification differs, 5 not found,
    6 unsafe content refused, 7 environment cannot load, 8 conflict, 9 remote, 10 no store,
    11 no space, 130 interrupted.
    """
    ctx.obj = {"debug": debug}


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    args = (sys.argv[1:] if args is None else args) or ["--help"]
    debug = "--debug" in args
    forget()
    try:
        status = cli.main(args=args, standalone_mode=False, prog_name=_program())
    except HoldfastError as error:
        status = _report(error, debug=debug)
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx is not None else _program()
        _fail(_with_usage(error), f"{where} --help")
        status = 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted. Nothing half-written is visible.", err=True)
        status = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except Exception as error:  # noqa: BLE001 - a person never meets a bare traceback
        if debug:
            traceback.print_exc()
        _fail(
            f"This is a fault of Holdfast itself: {type(error).__name__}: {error!s:.300}",
            f"{_program()} --debug {' '.join(sys.argv[1:])}",
        )
        status = 1
    sys.exit(status if isinstance(status, int) else 0)


def _with_usage(error: click.UsageError) -> str:
    """Word an error of the command line; one of a missing argument with all that it takes."""
    message = error.format_message()
    if isinstance(error, click.MissingParameter) and error.ctx is not None:
        return f"{message}\n{error.ctx.get_usage()}"
    return message


def _program() -> str:
    name = os.path.basename(sys.argv[0])  # noqa: PTH119 - argv is a text, not a path to open
    return name if name in ("hold", "holdfast") else "hold"


def _report(error: HoldfastError, *, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    _say_failed(error)
    return error.exit_code


def _fail(message: str, hint: str) -> None:
    _say_failed(HoldfastError(message, hint=hint))


def _say_failed(error: HoldfastError) -> None:
    lines = [clean(line) for line in error.message.splitlines()]
    if sys.stderr.isatty():
        lines = [click.style(line, fg="red") for line in lines]
    for line in (*lines, *(clean(complete(hint)) for hint in error.hint_lines())):
        click.echo(line, err=True)


if __name__ == "__main__":
    main()
