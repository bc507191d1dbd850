"""``voiceguard embed``: recordings in, a file of embeddings out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from voiceguard.cli import output
from voiceguard.cli.inputs import Input, expand
from voiceguard.errors import ParameterError

if TYPE_CHECKING:
    from voiceguard.embedding.values import EmbeddingRow

NOTHING_EMBEDDED = 2


class Pooling(str, Enum):
    """How frames become one vector."""

    NONE = "none"
    MEAN = "mean"
    MEAN_STD = "mean+std"
    ATTENTIVE = "attentive"


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("embed")(embed)


def embed(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH", help="Files, folders, patterns, or - for stdin."),
    ],
    out: Annotated[Path, typer.Option(help="HDF5 file; what it holds already is not redone.")],
    model: Annotated[
        str | None,
        typer.Option(help="lfcc, cqcc, mfcc, log-mel ..., a bundle or an encoder; vg-base."),
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="Layer of an encoder, by number, or all; the last.")
    ] = None,
    pool: Annotated[Pooling, typer.Option(help="How frames become one vector.")] = Pooling.NONE,
    float16: Annotated[bool, typer.Option("--float16", help="Half precision.")] = False,
    device: Annotated[str | None, typer.Option(help="Torch device, such as cuda.")] = None,
) -> None:
    """Compute embeddings of recordings, for features of your own.

    One JSON row an input on a pipe, with its key in the file. Embeddings of voices may be
    biometric data: they are written where you say and nowhere else.

    Exit code 0: done; inputs that could not be read are rows of their own. 2: wrong usage, no such
    model, or not one input could be embedded.
    """
    from voiceguard.embedding import Embedder

    embedder = Embedder(
        model,
        layer=_layer(layer),
        pool=None if pool is Pooling.NONE else pool.value,
        float16=float16,
        device=device,
    )
    inputs = expand(paths)
    with _shown(inputs) as tell:
        found = embedder.embed_many((each.source for each in inputs), out=out, progress=tell)
    failed = sum(row.error is not None for row in found)
    if output.on_terminal():
        cached = sum(row.cached for row in found)
        done = len(found) - failed - cached
        output.write(f"{done} embedded, {cached} there already, {failed} failed: {out}\n")
    raise typer.Exit(NOTHING_EMBEDDED if failed == len(found) else 0)


def _layer(text: str | None) -> int | Literal["all"] | None:
    if text is None:
        return None
    if text == "all":
        return "all"
    try:
        return int(text)
    except ValueError as error:
        raise ParameterError(
            f"The '--layer' option of embed must be a number or 'all'. Got {text!r} instead."
        ) from error


@contextmanager
def _shown(inputs: list[Input]) -> Iterator[Callable[[EmbeddingRow], None]]:
    """Give what tells of a row: a line of JSON in a pipe; on a terminal a bar, and errors only."""
    names = iter([each.path for each in inputs])
    with _bar(len(inputs)) as advance:

        def tell(row: EmbeddingRow) -> None:
            path = next(names)
            advance()
            if not output.on_terminal():
                output.write(json.dumps(_plain(path, row)) + "\n")
            elif row.error is not None:
                output.note(f"{path}: {type(row.error).__name__}: {row.error}")

        yield tell


def _plain(path: str, row: EmbeddingRow) -> dict[str, Any]:
    if row.error is None:
        return {"path": path, "key": row.key, "cached": row.cached}
    return {"path": path, "error": {"type": type(row.error).__name__, "message": str(row.error)}}


@contextmanager
def _bar(total: int) -> Iterator[Callable[[], None]]:
    """Draw a bar on standard error, on a terminal only."""
    if total < 2 or not (output.on_terminal() and sys.stderr.isatty()):
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    bar = Progress(console=Console(stderr=True), transient=True, redirect_stdout=False)
    with bar:
        task = bar.add_task("embedding", total=total)
        yield lambda: bar.advance(task)
