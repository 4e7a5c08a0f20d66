"""Puts the commands together and turns what they raise into words and exit codes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from breakfix.cli import author, candidate, demo, machine, reading
from breakfix.cli.settings import Settings
from breakfix.errors import BreakfixError

app = typer.Typer(
    name="breakfix",
    help="Hands-on labs for infrastructure engineers: real systems, really broken, graded by behaviour.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Plain help: rich would take longer to load than everything else together.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:  # noqa: FBT001  # typer calls it
    if wanted:
        from breakfix import __version__  # noqa: PLC0415

        typer.echo(f"breakfix {__version__}")
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    labs: Annotated[
        list[Path] | None, typer.Option("--labs", help="A further folder with labs/ and graders/. Repeatable.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,  # noqa: FBT002
    version: Annotated[  # noqa: ARG001, FBT002
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Take what holds for every command."""
    ctx.obj = Settings(tuple(labs or ()), debug)


for module in (reading, candidate, machine, author, demo):
    module.add_to(app)


def run() -> int:
    """Run the command of this process's arguments; return its exit code."""
    debug = "--debug" in sys.argv
    try:
        code = app(standalone_mode=False)
    except BreakfixError as error:
        if debug:
            raise
        _explain(error)
        return error.exit_code
    except typer.Abort:
        return 1
    except SystemExit as ended:
        # typer's way to say that whoever read us has gone.
        if isinstance(ended.__context__, BrokenPipeError):
            raise ended.__context__ from None
        raise
    except Exception as error:
        if debug:
            raise
        return _other(error)
    return int(code or 0)


def _explain(error: BreakfixError) -> None:
    typer.secho(f"breakfix: {error.what}", err=True, fg="red")
    if error.why:
        typer.echo("\n".join(f"  {line}" for line in error.why.splitlines()), err=True)
    if error.next_step:
        typer.echo(f"  → {error.next_step}", err=True)


def _other(error: Exception) -> int:
    """Say what the parser refused, or own up to a bug."""
    show = getattr(error, "show", None)
    if show is not None:
        show()
        return int(getattr(error, "exit_code", 2))
    typer.secho(f"breakfix: this is a bug of ours: {type(error).__name__}: {error}", err=True, fg="red")
    typer.echo("  → Run it again with `breakfix --debug …` and report what it prints.", err=True)
    return 4
