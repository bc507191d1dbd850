"""``voiceguard calibrate``: a model fitted to the user's own labelled scores."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voiceguard.cli import output
from voiceguard.errors import CalibrationError

if TYPE_CHECKING:
    from voiceguard.detect.bundle import Manifest
    from voiceguard.detect.calibration import Calibration
    from voiceguard.results import OperatingPoint

FEW = 50
"""Fewer scores of a class than this make a calibration that the next sample would change."""


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("calibrate")(calibrate)


def calibrate(
    scores: Annotated[
        Path, typer.Argument(help="CSV with the columns score and label, or any score file.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write the new bundle to.")],
    labels: Annotated[
        Path | None, typer.Argument(help="Protocol with the labels, where SCORES has none.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The model that gave the scores; vg-base.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="What the scores were measured on, for the record.")
    ] = None,
    new_id: Annotated[str | None, typer.Option("--id", help="Id of the new bundle.")] = None,
) -> None:
    """Fit scores to likelihood ratios and set thresholds, on recordings whose truth you know.

    Take the column score of 'voiceguard score --format csv', add a column label (bonafide or
    spoof), and give the file here. Rows without a score are left out. Score as many different
    speakers, channels and synthesis systems as you can: the rates hold for such data only.
    """
    from voiceguard.detect import calibration, registry
    from voiceguard.detect.bundle import read_bundle, read_extra_files, write_bundle

    bundle = read_bundle(registry.locate(model))
    values, names = _labelled(scores) if labels is None else _matched(scores, labels)
    named = data or scores.name
    fitted = calibration.fit(values, names, data=named)
    points = calibration.operating_points(fitted.apply(values), names, data=named)
    manifest = _recalibrated(bundle.manifest, fitted, points, bundle.info.sha256, new_id)
    card = bundle.card.rstrip() + "\n\n" + _section(fitted, points, names)
    folder = write_bundle(
        out,
        graph=bundle.graph,
        manifest=manifest,
        card=card,
        extra_files=read_extra_files(bundle),
    )
    _report(fitted, points, values, names)
    output.write(f"Score with it: voiceguard score FILE --model {folder}\n")


def _labelled(path: Path) -> tuple[list[float], list[str]]:
    """Scores and labels of one CSV."""
    from voiceguard.protocols import parse_label

    values: list[float] = []
    names: list[str] = []
    for line, row in _scored_rows(path, needed="label"):
        label = parse_label(row["label"] or "")
        if label is None:
            raise CalibrationError(
                f"{path}, line {line}: the label must be bonafide or spoof. Got {row['label']!r} "
                "instead."
            )
        values.append(float(row["score"]))
        names.append(label)
    return values, names


def _matched(scores: Path, labels: Path) -> tuple[list[float], list[str]]:
    """Scores of one file, labels of another; trials without a score are left out."""
    from voiceguard import protocols

    found = _by_path(scores) if _is_ours(scores) else protocols.read_scores(scores)
    kind = protocols.guess_format(labels)
    trials = protocols.read_trials(labels, kind, subset=protocols.ALL_SUBSETS)
    matched = protocols.match(found, trials, subset=protocols.ALL_SUBSETS, key="stem", partial=True)
    human, spoof = matched.bonafide_scores, matched.spoof_scores
    names = ["bonafide"] * len(human) + ["spoof"] * len(spoof)
    return [float(score) for score in (*human, *spoof)], names


def _is_ours(path: Path) -> bool:
    """Whether a file is the CSV of ``voiceguard score``, in which scores may be empty."""
    return {"path", "score"} <= set(_rows(path).fieldnames or ())


def _by_path(path: Path) -> dict[str, float]:
    return {row["path"]: float(row["score"]) for _, row in _scored_rows(path, needed="path")}


def _scored_rows(path: Path, *, needed: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Line numbers and rows of a CSV, those with an empty score left out."""
    reader = _rows(path)
    missing = {"score", needed} - set(reader.fieldnames or ())
    if missing:
        raise CalibrationError(
            f"{path} lacks the column {' and '.join(sorted(missing))}. Expected a CSV with a "
            "header and the columns score and label, or a protocol with the labels as second file."
        )
    for row in reader:
        text = (row["score"] or "").strip()
        if text:
            _check_number(text, path, reader.line_num)
            yield reader.line_num, row


def _rows(path: Path) -> csv.DictReader[str]:
    try:
        content = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise CalibrationError(f"{path} cannot be read: {error.strerror or error}.") from error
    return csv.DictReader(io.StringIO(content, newline=""))


def _check_number(text: str, path: Path, line: int) -> None:
    try:
        finite = math.isfinite(float(text))
    except ValueError:
        finite = False
    if not finite:
        raise CalibrationError(f"{path}, line {line}: {text!r} is no finite score.")


def _recalibrated(
    manifest: Manifest,
    fitted: Calibration,
    points: tuple[OperatingPoint, ...],
    graph: str,
    new_id: str | None,
) -> Manifest:
    origin = {"calibrated_from": f"{manifest.id} {manifest.version}", "graph_sha256": graph}
    return replace(
        manifest,
        id=new_id or f"{manifest.id.removesuffix('-calibrated')}-calibrated"[:64],
        calibration=fitted,
        operating_points=points,
        default_operating_point="balanced",
        provenance={**manifest.provenance, **origin},
        files={},
    )


def _section(fitted: Calibration, points: tuple[OperatingPoint, ...], names: list[str]) -> str:
    """Words for the card: whatever it said of calibration before, this holds now."""
    rows = "\n".join(
        f"| {p.name} | {p.threshold:.4f} | {p.miss_rate:.2%} | {p.false_alarm_rate:.2%} |"
        for p in points
    )
    return f"""## Calibration of this bundle

Fitted by the user on {fitted.data}: {names.count("bonafide")} human and {names.count("spoof")}
synthetic recordings ({fitted.method}). It replaces any calibration and rates named above. The rates
below are those on the data of the fit, and so a little too good.

| operating point | threshold (llr) | synthetic speech passed | human speech flagged |
| --- | --- | --- | --- |
{rows}
"""


def _report(
    fitted: Calibration,
    points: tuple[OperatingPoint, ...],
    values: list[float],
    names: list[str],
) -> None:
    from voiceguard import metrics

    llrs = fitted.apply(values)
    human = llrs[[name == "bonafide" for name in names]]
    spoof = llrs[[name == "spoof" for name in names]]
    output.write(
        f"{len(human)} human, {len(spoof)} synthetic; llr = {fitted.slope:.5g} * score "
        f"{fitted.offset:+.5g} ({fitted.method})\n"
        f"on this data: EER {metrics.eer(human, spoof).value:.2%}, "
        f"Cllr {metrics.cllr(human, spoof).value:.4f} bits\n"
    )
    for point in points:
        output.write(
            f"{point.name:<16} threshold {point.threshold:+.3f}: {point.miss_rate:.2%} of "
            f"synthetic speech passes, {point.false_alarm_rate:.2%} of human speech is flagged"
            f"{f', no verdict within {point.margin:.3f}' if point.margin else ''}\n"
        )
    if min(len(human), len(spoof)) < FEW:
        output.note(f"warning: fewer than {FEW} scores of a class; the rates are rough.")
