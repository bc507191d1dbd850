"""The ``voiceguard`` command."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from voiceguard._version import __version__
from voiceguard.cli import output
from voiceguard.errors import VoiceguardError

COMMANDS = ("score", "embed", "models", "calibrate", "evaluate", "data", "doctor")
"""Modules of this package that each add a command, in the order of the help page."""

USER_ERROR = 2
INTERRUPTED = 130


def build() -> typer.Typer:
    """Put the application together."""
    app = typer.Typer(
        name="voiceguard",
        help="Tell human from synthetic voices, offline.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_options)
    for name in COMMANDS:
        importlib.import_module(f"voiceguard.cli.{name}").register(app)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the process.

    Returns
    -------
    int
        The exit code: the command's own; 2 for wrong usage and for any error that voiceguard
        raises, said in one line on standard error; 130 after an interrupt; 141 where the reader of
        the output went away.
    """
    command: Any = typer.main.get_command(build())
    given = None if arguments is None else list(arguments)
    try:
        code = command.main(args=given, prog_name="voiceguard", standalone_mode=False)
    except VoiceguardError as error:
        output.note(f"Error: {error}")
        return USER_ERROR
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except Exception as error:
        return _usage(error)
    return code if isinstance(code, int) else 0


def _usage(error: Exception) -> int:
    """Show a usage error of the command-line parser; anything else is a fault and goes on.

    The parser's exception class has moved between releases; what it can do has not.
    """
    show, code = getattr(error, "show", None), getattr(error, "exit_code", None)
    if show is None or not isinstance(code, int):
        raise error
    show()
    return code


def _version(wanted: bool) -> None:
    if wanted:
        output.write(f"voiceguard {__version__}\n")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """Tell human from synthetic voices, offline."""
