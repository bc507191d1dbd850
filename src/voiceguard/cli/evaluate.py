"""``voiceguard evaluate``: scores and a protocol in, the table of metrics out."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from voiceguard.protocols import AsvScores, MismatchError, ScoredTrials

_LISTED = 20


class Match(str, Enum):
    """How the names of scores and trials are compared."""

    EXACT = "exact"
    STEM = "stem"


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("evaluate")(evaluate)


def evaluate(
    scores: Annotated[Path, typer.Argument(help="Score file, plain or gzip.")],
    protocol: Annotated[Path, typer.Argument(help="Protocol file, or folder of classes.")],
    format: Annotated[
        str | None, typer.Option("--format", "-f", help="Protocol format; told by its first line.")
    ] = None,
    scores_format: Annotated[
        str | None, typer.Option(help="Score file format; told by its first line.")
    ] = None,
    subset: Annotated[
        str | None, typer.Option(help="eval, progress, hidden or all; needed where there are any.")
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(help="Break down by attack, codec, speaker or any column; repeatable."),
    ] = None,
    asv: Annotated[
        Path | None, typer.Option(help="ASV scores of the same part: adds both min t-DCFs.")
    ] = None,
    asv_keys: Annotated[
        Path | None, typer.Option(help="Keys of the ASV scores, for those of 2021.")
    ] = None,
    bootstrap: Annotated[
        int, typer.Option(min=0, help="Resamples for 95 % intervals; 0: none.")
    ] = 0,
    bootstrap_by: Annotated[
        str | None, typer.Option(help="Resample whole groups: speaker, attack or any column.")
    ] = None,
    lower_is_bonafide: Annotated[
        bool, typer.Option("--lower-is-bonafide", help="The scores grow towards spoof.")
    ] = False,
    match: Annotated[
        Match, typer.Option(help="stem: compare names without folder, suffix.")
    ] = Match.EXACT,
    partial: Annotated[
        bool, typer.Option("--partial", help="Leave out trials without a score, and say so.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Folder for det and scores as .png and .svg.")
    ] = None,
) -> None:
    """Judge scores against a protocol: EER, DCFs, Cllr, t-DCF, per attack, codec or speaker."""
    from voiceguard.errors import VoiceguardError
    from voiceguard.protocols import MismatchError

    try:
        matched = _load(
            scores, protocol, format, scores_format, subset, match, partial, lower_is_bonafide
        )
        verifier = _verifier(asv, asv_keys, subset)
        report = _report(
            matched, asv=verifier, by=by or [], n_resamples=bootstrap, unit=bootstrap_by
        )
        if plot is not None:
            report["plots"] = _draw(matched, scores.name, plot)
    except MismatchError as error:
        _refuse(error, match)
        raise typer.Exit(2) from error
    except VoiceguardError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(2) from error
    if as_json:
        typer.echo(json.dumps(report, indent=2, allow_nan=False))
    else:
        _print(report)


def _load(
    scores: Path,
    protocol: Path,
    format: str | None,
    scores_format: str | None,
    subset: str | None,
    match: Match,
    partial: bool,
    lower_is_bonafide: bool,
) -> ScoredTrials:
    from voiceguard import protocols

    found = protocols.read_scores(scores, scores_format)
    if lower_is_bonafide:
        found = {utterance: -score for utterance, score in found.items()}
    kind = format or protocols.guess_format(protocol)
    trials = protocols.read_trials(protocol, kind, subset=protocols.ALL_SUBSETS)
    return protocols.match(found, trials, subset=subset, key=match.value, partial=partial)


def _verifier(asv: Path | None, keys: Path | None, subset: str | None) -> AsvScores | None:
    from voiceguard import protocols
    from voiceguard.errors import ParameterError

    if keys is None:
        return None if asv is None else protocols.read_asv_scores(asv)
    if asv is None or subset is None:
        raise ParameterError("The '--asv-keys' option goes with '--asv' and '--subset'.")
    return protocols.read_asv_scores_2021(asv, keys, subset=subset)


def _report(
    matched: ScoredTrials,
    *,
    asv: AsvScores | None,
    by: list[str],
    n_resamples: int,
    unit: str | None,
) -> dict[str, Any]:
    report: dict[str, Any] = {
        "n_bonafide": len(matched.bonafide),
        "n_spoof": len(matched.spoof),
        "n_without_score": len(matched.missing),
        "metrics": _figures(matched, asv),
        "by": {name: _breakdown(matched, name) for name in by},
    }
    if n_resamples:
        report["intervals"] = _intervals(matched, n_resamples, unit)
    return report


def _figures(matched: ScoredTrials, asv: AsvScores | None) -> dict[str, float]:
    from voiceguard import metrics

    bonafide, spoof = matched.bonafide_scores, matched.spoof_scores
    equal = metrics.eer(bonafide, spoof)
    figures = {
        "eer": equal.value,
        "eer_threshold": equal.threshold,
        "min_dcf": metrics.min_dcf(bonafide, spoof).value,
        "act_dcf": metrics.act_dcf(bonafide, spoof).value,
        "cllr": metrics.cllr(bonafide, spoof).value,
        "min_cllr": metrics.min_cllr(bonafide, spoof).value,
        "ece": metrics.ece(bonafide, spoof).value,
    }
    if asv is not None:
        rates = metrics.asv_rates(asv.target, asv.nontarget, asv.spoof)
        figures |= {
            "min_tdcf_2019": metrics.min_tdcf(bonafide, spoof, asv=rates, version="2019").value,
            "min_tdcf_2021": metrics.min_tdcf(bonafide, spoof, asv=rates, version="2021").value,
        }
    return figures


def _breakdown(matched: ScoredTrials, name: str) -> list[dict[str, Any]]:
    from voiceguard import metrics

    of_bonafide, of_spoof = _groups(matched, name)
    if of_bonafide is not None and set(of_bonafide).isdisjoint(of_spoof):
        # A column such as the kind of synthesis parts the spoofs only: all bona fide trials count.
        of_bonafide = None
    rows = metrics.breakdown(
        metrics.eer,
        matched.bonafide_scores,
        matched.spoof_scores,
        spoof_groups=of_spoof,
        bonafide_groups=of_bonafide,
    )
    return [
        {
            "group": row.group,
            "n_bonafide": row.n_bonafide,
            "n_spoof": row.n_spoof,
            "eer": None if row.result is None else row.result.value,
        }
        for row in rows
    ]


def _intervals(matched: ScoredTrials, n_resamples: int, unit: str | None) -> dict[str, Any]:
    from voiceguard import metrics

    of_bonafide, of_spoof = (None, None) if unit is None else _groups(matched, unit)
    intervals: dict[str, Any] = {"unit": unit or "utterance", "n_resamples": n_resamples}
    for name, metric in (("eer", metrics.eer), ("min_dcf", metrics.min_dcf)):
        found = metrics.bootstrap(
            metric,
            matched.bonafide_scores,
            matched.spoof_scores,
            bonafide_groups=of_bonafide,
            spoof_groups=of_spoof,
            n_resamples=n_resamples,
        )
        intervals[name] = [found.low, found.high]
    return intervals


def _groups(matched: ScoredTrials, name: str) -> tuple[list[str] | None, list[str]]:
    """Name the groups of both classes; None for bona fide trials that carry none."""
    from voiceguard.errors import ProtocolError

    groups = matched.groups(name)
    if groups is None:
        raise ProtocolError(f"The protocol names no {name!r}; take another column.")
    of_bonafide, of_spoof = groups
    return (None if all(group == "-" for group in of_bonafide) else of_bonafide), of_spoof


def _draw(matched: ScoredTrials, name: str, folder: Path) -> list[str]:
    from voiceguard import metrics
    from voiceguard.errors import MetricError

    bonafide, spoof = matched.bonafide_scores, matched.spoof_scores
    threshold = metrics.eer(bonafide, spoof).threshold
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MetricError(f"{folder} cannot be made: {error.strerror or error}.") from error
    drawn = []
    for suffix in ("png", "svg"):
        det = metrics.plot_det({name: (bonafide, spoof)}, folder / f"det.{suffix}")
        scores = metrics.plot_scores(
            bonafide, spoof, folder / f"scores.{suffix}", threshold=threshold
        )
        drawn += [str(det), str(scores)]
    return drawn


def _refuse(error: MismatchError, match: Match) -> None:
    typer.echo(f"Error: {str(error).split(':')[0]}.", err=True)
    for what, names in (
        ("trials without a score", error.missing),
        ("scores without a trial", error.extra),
    ):
        if names:
            more = f"\n  ... and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
            typer.echo(f"{len(names)} {what}:\n  " + "\n  ".join(names[:_LISTED]) + more, err=True)
    if match is Match.EXACT and error.missing and error.extra:
        typer.echo("--match stem compares names without folder and suffix.", err=True)
    if error.missing and not error.extra:
        typer.echo("--partial leaves trials without a score out.", err=True)


_NAMES = {
    "eer": "EER (%)",
    "eer_threshold": "EER threshold",
    "min_dcf": "minDCF",
    "act_dcf": "actDCF (scores as LLRs)",
    "cllr": "Cllr (bits, scores as LLRs)",
    "min_cllr": "min Cllr (bits)",
    "ece": "ECE (scores as LLRs, prior 0.5)",
    "min_tdcf_2019": "min t-DCF, 2019 (legacy)",
    "min_tdcf_2021": "min t-DCF, 2021 (revised)",
}


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("metric", title=f"{report['n_bonafide']} bona fide, {report['n_spoof']} spoof")
    table.add_column("value", justify="right")
    intervals = report.get("intervals", {})
    if intervals:
        table.add_column(f"95 % by {intervals['unit']}", justify="right")
    for name, value in report["metrics"].items():
        cells = [_shown(name, value)]
        if intervals:
            cells.append(" to ".join(_shown(name, end) for end in intervals.get(name, [])))
        table.add_row(_NAMES[name], *cells)
    console.print(table)
    for name, rows in report["by"].items():
        console.print(_group_table(name, rows))
    if report["n_without_score"]:
        console.print(f"{report['n_without_score']} trials without a score were left out.")
    for path in report.get("plots", []):
        console.print(f"drawn: {path}", highlight=False, soft_wrap=True)


def _group_table(name: str, rows: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    table = Table(name)
    for column in ("bona fide", "spoof", "EER (%)"):
        table.add_column(column, justify="right")
    for row in rows:
        rate = "-" if row["eer"] is None else _shown("eer", row["eer"])
        table.add_row(row["group"], str(row["n_bonafide"]), str(row["n_spoof"]), rate)
    return table


def _shown(name: str, value: float) -> str:
    return f"{100 * value:.3f}" if name == "eer" else f"{value:.5f}"
