"""The rows that ``voiceguard score`` writes: one an input, as JSON, CSV or a table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from voiceguard.cli.output import printable
from voiceguard.results import Label, Result

COLUMNS = (
    "path", "verdict", "p_spoof", "llr", "score", "reasons", "where", "channel", "speech_s",
    "duration_s", "operating_point", "model", "error",
)  # fmt: skip
"""Columns of the CSV form. The label is called verdict there, so that it is not taken for the truth
where that is added as a column ``label`` for ``voiceguard calibrate``."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_COLOURS = {Label.BONAFIDE: "green", Label.SPOOF: "bold red", Label.INCONCLUSIVE: "yellow"}
_SHOWN_SPANS = 3


@dataclass(frozen=True)
class ScoredRow:
    """An input by its name, with a result or an error."""

    path: str
    result: Result | None
    error: Exception | None

    @property
    def kind(self) -> str:
        """The label, or ``error``."""
        return "error" if self.result is None else self.result.label.value

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON form: the result's, or ``path`` and ``error``."""
        if self.result is not None:
            return {**self.result.to_dict(), "path": self.path}
        message = {"type": type(self.error).__name__, "message": str(self.error)}
        return {"path": self.path, "error": message}


def jsonl(row: ScoredRow) -> str:
    """One line of JSON."""
    return json.dumps(row.to_dict(), allow_nan=False) + "\n"


def csv_header() -> str:
    """First line of the CSV form."""
    return _csv_line(COLUMNS)


def csv_line(row: ScoredRow) -> str:
    """One line of CSV; text that a spreadsheet would run as a formula is quoted away."""
    if row.result is None:
        cells: dict[str, Any] = {"error": _harmless(f"{type(row.error).__name__}: {row.error}")}
    else:
        cells = _cells(row.result)
    return _csv_line([_harmless(row.path), *(cells.get(name, "") for name in COLUMNS[1:])])


def spoof_spans(result: Result) -> list[tuple[float, float]]:
    """Stretches that the windows called spoof cover, seconds, overlapping ones joined."""
    spans: list[tuple[float, float]] = []
    for segment in result.segments:
        if segment.state is not Label.SPOOF:
            continue
        if spans and segment.start_s <= spans[-1][1]:
            spans[-1] = (spans[-1][0], segment.end_s)
        else:
            spans.append((segment.start_s, segment.end_s))
    return spans


def table(rows: Sequence[ScoredRow]) -> Any:
    """Rich table of rows."""
    from rich.table import Table
    from rich.text import Text

    grid = Table("path", "verdict")
    for name in ("p(spoof)", "llr", "speech"):
        grid.add_column(name, justify="right", no_wrap=True)
    grid.add_column("synthetic at")
    grid.add_column("remarks")
    grid.columns[0].overflow = "fold"
    for row in rows:
        path = Text(printable(row.path))
        if row.result is None:
            grid.add_row(path, Text("error", "red"), "", "", "", "", Text(_oneline(row.error)))
        else:
            grid.add_row(path, *_table_cells(row.result))
    return grid


def summary(rows: Sequence[ScoredRow]) -> str:
    """Counts, and where the line was drawn."""
    counts = ", ".join(
        f"{sum(row.kind == kind for row in rows)} {kind}"
        for kind in ("bonafide", "spoof", "inconclusive", "error")
    )
    lines = [f"{counts}. The figures speak of synthetic speech, not of fraud."]
    result = next((row.result for row in rows if row.result is not None), None)
    if result is not None:
        lines.append(_line_of(result))
    warnings = {note: None for row in rows if row.result for note in row.result.warnings}
    return "\n".join([*lines, *(f"warning: {printable(note)}" for note in warnings)]) + "\n"


def _line_of(result: Result) -> str:
    model = f"model {result.model.id} {result.model.version}"
    point = result.operating_point
    if point is None:
        return f"{model}; no threshold"
    rates = ""
    if point.miss_rate is not None and point.false_alarm_rate is not None:
        rates = (
            f": there it let {point.miss_rate:.1%} of synthetic speech pass and flagged "
            f"{point.false_alarm_rate:.1%} of human speech"
        )
    origin = f", set on {point.data}" if point.data else ""
    return f"{model}; operating point {point.name}{origin}{rates}"


def _cells(result: Result) -> dict[str, Any]:
    index = next((c.index for c in result.channels if c.segments == result.segments), 0)
    return {
        "verdict": result.label.value,
        "p_spoof": _number(result.p_spoof),
        "llr": _number(result.llr),
        "score": _number(result.score),
        "reasons": " ".join(reason.value for reason in result.reasons),
        "where": " ".join(f"{start:.2f}-{end:.2f}" for start, end in spoof_spans(result)),
        "channel": index,
        "speech_s": _number(result.speech_s),
        "duration_s": _number(result.duration_s),
        "operating_point": "" if result.operating_point is None else result.operating_point.name,
        "model": f"{result.model.id} {result.model.version}",
    }


def _table_cells(result: Result) -> Iterator[Any]:
    from rich.text import Text

    yield Text(result.label.value, _COLOURS[result.label])
    yield "" if result.p_spoof is None else f"{result.p_spoof:.3f}"
    yield "" if result.llr is None else f"{result.llr:+.2f}"
    yield f"{result.speech_s:.1f} s"
    spans = spoof_spans(result)
    more = ", ..." if len(spans) > _SHOWN_SPANS else ""
    yield ", ".join(f"{a:.1f}-{b:.1f} s" for a, b in spans[:_SHOWN_SPANS]) + more
    remarks = [reason.value for reason in result.reasons]
    if result.llr is None and result.score is not None:
        remarks.append(f"score {result.score:.3f}")
    if len(result.channels) > 1:
        remarks.append("channels " + "/".join(c.label.value for c in result.channels))
    yield Text(", ".join(remarks))


def _csv_line(cells: Sequence[Any]) -> str:
    out = io.StringIO()
    # With this terminator both of its characters are quoted where they stand in a cell.
    csv.writer(out, lineterminator="\r\n").writerow(cells)
    return out.getvalue().removesuffix("\r\n") + "\n"


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _oneline(error: object) -> str:
    return printable(" ".join(str(error).split()))
