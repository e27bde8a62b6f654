"""The `vitascope` command: its subcommands, and what an error looks like to whoever typed it."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Annotated

import typer

import vitascope
from vitascope.cli import jobs, models
from vitascope.cli.config_file import ConfigurableCommand
from vitascope.cli.doctor import doctor
from vitascope.cli.generate import generate
from vitascope.cli.launch import launch, list_models, terminate
from vitascope.cli.launch_syntax import XinferenceCommand
from vitascope.cli.reproduce import reproduce
from vitascope.cli.serve import serve
from vitascope.config.processes import calm_threads
from vitascope.errors import VitascopeError

INTERRUPTED = 130

app = typer.Typer(
    name="vitascope",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # --num_frames is --num-frames: both spellings are in use elsewhere
    context_settings={
        "token_normalize_func": lambda name: name.replace("_", "-"),
        "help_option_names": ["--help", "-h"],
    },
)
app.command(cls=ConfigurableCommand)(generate)
app.command(cls=ConfigurableCommand)(serve)
app.command(cls=XinferenceCommand)(launch)
app.command("list", cls=XinferenceCommand)(list_models)
app.command(cls=XinferenceCommand)(terminate)
app.command()(reproduce)
app.command()(doctor)
app.add_typer(models.app, name="models")
app.add_typer(jobs.app, name="jobs")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"vitascope {vitascope.__version__}")


def _show_version(*, wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def root(
    *,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Generate video, or serve it: text to video, image to video, first and last frame to video."""


def main() -> None:
    """Run the command line of this process."""
    if "--debug" not in sys.argv:
        sys.excepthook = _one_line
    calm_threads()
    sys.exit(run(sys.argv[1:]))


def run(args: list[str]) -> int:
    """Run one command line and return its exit status: 0, 1 for an error, 2 for a wrong use, 130 for Ctrl-C.

    `--debug` may stand anywhere; without it no traceback is shown.
    """
    if "--debug" in args:
        return _call([arg for arg in args if arg != "--debug"])
    try:
        return _call(args)
    except VitascopeError as error:
        _complain(str(error))
    except OSError as error:
        named = "" if error.filename is None else f" ({error.filename})"
        _complain(f"{error.strerror or error}{named}")
    return 1


def _call(args: list[str]) -> int:
    try:
        app(args, prog_name="vitascope")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _one_line(kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    """Show an error that nobody foresaw; the hook of last resort."""
    _complain(f"unforeseen {kind.__name__}: {error} (run again with --debug to see where)")


def _complain(message: str) -> None:
    typer.echo(f"error: {message}", err=True)
