"""``voiceguard score``: recordings in, verdicts out."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from voiceguard.cli import output, rows
from voiceguard.cli.inputs import Input, expand

if TYPE_CHECKING:
    from voiceguard.detect.detector import Detector

POLICY_HIT = 1
NOTHING_SCORED = 2


class Format(str, Enum):
    """How rows are written."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


class FailOn(str, Enum):
    """What makes the exit code 1."""

    SPOOF = "spoof"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("score")(score)


def score(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH", help="Files, folders, patterns, or - for stdin."),
    ],
    model: Annotated[
        str | None, typer.Option(help="Id of a model or folder of a bundle; vg-base.")
    ] = None,
    operating_point: Annotated[
        str | None, typer.Option(help="Where the line is drawn, by name; the model's default.")
    ] = None,
    prior: Annotated[
        float, typer.Option(help="Prior probability of spoof, for p_spoof; not for the label.")
    ] = 0.5,
    format: Annotated[
        Format | None,
        typer.Option("--format", "-f", help="By default table on a terminal, jsonl in a pipe."),
    ] = None,
    fail_on: Annotated[
        list[FailOn] | None, typer.Option(help="Exit with 1 if an input is so; repeatable.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the model.")] = 1,
) -> None:
    """Say how likely recordings are synthetic speech.

    One row an input, each with its path. Everything stays on this machine.

    Exit code 0: done; inputs that could not be read are rows of their own. 1: an input is what
    --fail-on names. 2: wrong usage, no such model, or not one input could be read.
    """
    from voiceguard.detect.detector import Detector

    detector = Detector.load(model, threads=threads)
    inputs = expand(paths)
    chosen = format or (Format.TABLE if output.on_terminal() else Format.JSONL)
    found = _rows(detector, inputs, operating_point, prior)
    kinds = _WRITERS[chosen](_with_bar(found, len(inputs), chosen))
    raise typer.Exit(_exit_code(kinds, {each.value for each in fail_on or ()}))


def _rows(
    detector: Detector, inputs: list[Input], operating_point: str | None, prior: float
) -> Iterator[rows.ScoredRow]:
    sources = (each.source for each in inputs)
    scored = detector.score_many(sources, operating_point=operating_point, prior_spoof=prior)
    for each, row in zip(inputs, scored, strict=True):
        yield rows.ScoredRow(each.path, row.result, row.error)


def _with_bar(
    found: Iterable[rows.ScoredRow], total: int, chosen: Format
) -> Iterator[rows.ScoredRow]:
    """Draw a bar on standard error, on a terminal only, and never between rows on one."""
    crowded = output.on_terminal() and chosen is not Format.TABLE
    if total < 2 or crowded or not sys.stderr.isatty():
        yield from found
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    # Without the redirection, which would send the rows to standard error too.
    bar = Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with bar:
        yield from bar.track(found, total=total, description="scoring")


def _exit_code(kinds: list[str], fail_on: set[str]) -> int:
    if fail_on.intersection(kinds):
        return POLICY_HIT
    return NOTHING_SCORED if set(kinds) == {"error"} else 0


def _write_table(found: Iterable[rows.ScoredRow]) -> list[str]:
    kept = list(found)
    output.show(rows.table(kept))
    output.write(rows.summary(kept))
    return [row.kind for row in kept]


def _write_json(found: Iterable[rows.ScoredRow]) -> list[str]:
    kinds: list[str] = []
    for row in found:
        output.write(("[\n" if not kinds else ",\n") + rows.jsonl(row).rstrip())
        kinds.append(row.kind)
    output.write("\n]\n")
    return kinds


def _write_jsonl(found: Iterable[rows.ScoredRow]) -> list[str]:
    kinds = []
    for row in found:
        output.write(rows.jsonl(row))
        kinds.append(row.kind)
    return kinds


def _write_csv(found: Iterable[rows.ScoredRow]) -> list[str]:
    output.write(rows.csv_header())
    kinds = []
    for row in found:
        output.write(rows.csv_line(row))
        kinds.append(row.kind)
    return kinds


_WRITERS = {
    Format.TABLE: _write_table,
    Format.JSON: _write_json,
    Format.JSONL: _write_jsonl,
    Format.CSV: _write_csv,
}
