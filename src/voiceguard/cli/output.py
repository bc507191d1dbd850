"""Where the commands write: text that any terminal, pipe or file takes."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

import typer

PIPE_CLOSED = 141
"""Exit code where the reader went away: 128 + SIGPIPE, as of any program in a pipe."""


def on_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def write(text: str) -> None:
    """Write text to standard output at once.

    Parameters
    ----------
    text : str
        What to write; characters that the output cannot carry are escaped.

    Raises
    ------
    typer.Exit
        If the reader went away (``| head``).
    """
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError as error:
        # What is still in the buffer would raise once more when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(PIPE_CLOSED) from error


def show(renderable: Any) -> None:
    """Write something that rich can render, in colour on a terminal only.

    Parameters
    ----------
    renderable : object
        A table, a text ...

    Raises
    ------
    typer.Exit
        If the reader went away.
    """
    from rich.console import Console

    terminal = on_terminal()
    out = io.StringIO()
    width = Console().width if terminal else 120
    Console(file=out, force_terminal=terminal, width=width, highlight=False).print(renderable)
    write(out.getvalue())


def note(text: str) -> None:
    """Write one line to standard error."""
    typer.echo(printable(text), err=True)


def printable(text: str) -> str:
    """Escape what a terminal would obey rather than show: a file name may hold anything."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
