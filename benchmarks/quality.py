r"""The bundled models against the targets: error, calibration, size and time, met or not.

    python benchmarks/quality.py --out work/quality --plots docs/quality
    python benchmarks/quality.py --out work/quality --markdown --json work/quality.json \
        --systems aasist asvspoof5-aasist cues --cache work

Every clip of ``wild-dev``, its first 4 s, as recorded and through G.711 at 8 kHz, goes through the
whole path with the quality gate open. ``base`` is the default model for files, ``small`` the one
for live calls. ``--systems`` sets others beside them: published checkpoints by name, ``cues`` (the
tree on trivial cues, trained on the corpus without the held-out fold) or whatever Detector.load
takes. Scores are kept as ``benchmarks/reproduce.py`` keeps them, in the same files, so that a run
that was stopped goes on and a second one only counts.

Intervals: 95 %, bootstrap over groups of clips. A system is unseen if the corpus' manifest does not
name it. Milliseconds are CPU time of one thread for one window of the graph alone, the models
taking turns, so that other work on the machine counts little.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import _quality_plots as plots
from reproduce import (
    CHECKPOINTS,
    OUR_SAMPLES,
    PUBLISHED_SAMPLES,
    READERS,
    SHARED,
    Floats,
    Trials,
    all_figures,
    bundle_of,
    scores_by,
)
from voiceguard import Detector
from voiceguard.detect.registry import DEFAULTS, Use
from voiceguard.detect.verdict import Rule
from voiceguard.results import Label
from voiceguard.training.corpus import read_manifest

# isort: split
# The recipe is on the path since reproduce was imported.
from evaluate import CHANNELS, Scorer, Scores, cue_scorer, detector_scorer, figures, subsets

from _held_out import CHANNEL_TITLES, mark, percent, table, write_json

ROUNDS = 30
UNSEEN = "systems that the corpus lacks"
Figures = dict[str, float]


@dataclass(frozen=True)
class Target:
    """One line of the table of targets; the value is to be at most `must`, better `goal`.

    Parameters
    ----------
    what : str
    unit : str
        ``%`` (value in [0, 1]), ``MB``, ``ms``, or nothing for a ratio.
    value, must : float
    goal : float or None
    """

    what: str
    unit: str
    value: float
    must: float
    goal: float | None = None

    @property
    def met(self) -> str:
        """``goal``, ``must``, or ``no``."""
        if self.goal is not None and self.value <= self.goal:
            return "goal"
        return "must" if self.value <= self.must else "no"


@dataclass(frozen=True)
class System:
    """What is judged.

    Parameters
    ----------
    name : str
    key : str
        Names its weights in the score file.
    make : callable
        Makes its scorer.
    samples : int
        Of a clip that it hears.
    detector : Detector or None
        Where it is a bundle.
    """

    name: str
    key: str
    make: Callable[[], Scorer]
    samples: int
    detector: Detector | None = None

    @property
    def calibrated(self) -> bool:
        """Whether its scores are llr."""
        return self.detector is not None and self.detector.manifest.calibration is not None

    @property
    def threshold(self) -> float | None:
        """That of the operating point ``balanced``."""
        points = () if self.detector is None else self.detector.manifest.operating_points
        return next((point.threshold for point in points if point.name == "balanced"), None)


@dataclass(frozen=True)
class Judged:
    """A system's scores and figures on one channel, over all clips and part by part."""

    values: Floats
    numbers: Figures
    parts: dict[str, Figures]


def system(name: str, args: argparse.Namespace) -> System:
    """A system by what the command line calls it."""
    if name == "cues":
        cache = args.cache or args.out
        made = lambda: cue_scorer(args.corpus, cache, args.fold)  # noqa: E731
        return System(name, f"fold{args.fold}", made, OUR_SAMPLES)
    bundle = bundle_of(name, args.fixtures, args.out)
    detector = Detector.load(bundle)
    samples = PUBLISHED_SAMPLES if name in CHECKPOINTS else OUR_SAMPLES
    key = mark(detector)
    return System(Path(name).name, key, lambda: detector_scorer(bundle), samples, detector)


def judge(
    found: System, trials: Trials, channel: str, parts: Mapping[str, Any], folder: Path
) -> Judged:
    """Scores of a system on one channel, and its figures."""
    path = folder / f"wild-dev_{channel}_{found.name}_{found.key}.txt"
    values = scores_by(found.make, trials, channel, found.samples, path)
    numbers = all_figures(trials, values, calibrated=found.calibrated)
    if "act_dcf" in numbers:
        numbers["act_to_min"] = numbers["act_dcf"] / numbers["min_dcf"]
    return Judged(
        values, numbers, {name: part_figures(trials, values, of) for name, of in parts.items()}
    )


def part_figures(trials: Trials, values: Floats, chosen: Any) -> Figures:
    """EER of some of the spoof clips against all human ones, and how many they are."""
    keep = trials.bonafide | chosen
    scores = Scores(values[keep], np.zeros(int(keep.sum()), bool), calibrated=False)
    return {
        **figures(scores, trials.bonafide[keep], trials.groups[keep]),
        "n": int(chosen.sum()),
    }


def core_ms(detectors: Mapping[str, Detector]) -> dict[str, float]:
    """Median CPU milliseconds of one thread for a window, the models taking turns."""
    rng = np.random.default_rng(0)
    windows = {
        name: rng.normal(0.0, 0.1, (1, each.manifest.window_samples)).astype(np.float32)
        for name, each in detectors.items()
    }
    times: dict[str, list[float]] = {name: [] for name in detectors}
    for turn in range(ROUNDS + 1):
        for name, each in detectors.items():
            start = time.thread_time()
            each.engine.run(windows[name])
            # The first turn builds the session.
            if turn:
                times[name].append(time.thread_time() - start)
    return {name: 1000 * statistics.median(spent) for name, spent in times.items()}


def megabytes(name: str) -> float:
    """Size of a bundle, all its files."""
    from voiceguard.detect.registry import locate

    return sum(file.stat().st_size for file in locate(name).iterdir()) / 1e6


def targets(
    base: Mapping[str, Judged],
    small: Mapping[str, Judged],
    *,
    size_mb: Mapping[str, float],
    window_ms: Mapping[str, float],
) -> list[Target]:
    """The table of targets.

    Parameters
    ----------
    base, small : mapping of str to Judged
        By channel.
    size_mb, window_ms : mapping of str to float
        Of ``base`` and ``small``.

    Returns
    -------
    list of Target
    """
    limits = {"clean": (0.18, 0.10), "g711": (0.23, 0.14)}
    lines = [
        Target(f"base, {CHANNEL_TITLES[c]}: EER", "%", base[c].numbers["eer"], *limits[c])
        for c in CHANNELS
    ]
    for c in CHANNELS:
        unseen = abs(base[c].parts[UNSEEN]["eer"] - base[c].numbers["eer"])
        lines.append(Target(f"base, {CHANNEL_TITLES[c]}: unseen from all", "%", unseen, 0.03))
    for c in CHANNELS:
        worse = small[c].numbers["eer"] - base[c].numbers["eer"]
        lines.append(Target(f"small over base, {CHANNEL_TITLES[c]}: EER", "%", worse, 0.04, 0.02))
    for name, judged in (("base", base), ("small", small)):
        lines += [
            Target(
                f"{name}, {CHANNEL_TITLES[c]}: actDCF / minDCF",
                "",
                judged[c].numbers["act_to_min"],
                1.2,
                1.1,
            )
            for c in CHANNELS
        ]
    for name, most_mb, most_ms in (("base", 12.0, 150.0), ("small", 2.0, 8.0)):
        lines.append(Target(f"{name}: size", "MB", size_mb[name], most_mb))
        lines.append(Target(f"{name}: a window on one core", "ms", window_ms[name], most_ms))
    return lines


def shown(value: float | None, unit: str) -> str:
    """A target's number with its unit."""
    if value is None:
        return "-"
    if unit == "%":
        return f"{100 * value:.1f} %"
    return f"{value:.1f} {unit}" if unit else f"{value:.2f}"


def figure_rows(found: Mapping[tuple[str, str], Judged]) -> list[list[str]]:
    """System and channel a line: EER with interval, costs, information."""
    names = ("min_dcf", "act_dcf", "act_to_min", "cllr", "min_cllr")
    rows = []
    for (name, channel), judged in found.items():
        numbers = judged.numbers
        cells = [f"{numbers[each]:.3f}" if each in numbers else "-" for each in names]
        rows.append([f"{name}, {CHANNEL_TITLES[channel]}", error(numbers), *cells])
    return rows


def part_rows(found: Mapping[tuple[str, str], Judged], models: Sequence[str]) -> list[list[str]]:
    """Part a line: EER with interval of each model on each channel."""
    columns = [found[name, channel].parts for name in models for channel in CHANNELS]
    return [
        [f"{part} ({columns[0][part]['n']})", *(error(each[part]) for each in columns)]
        for part in columns[0]
    ]


def point_rows(
    found: Mapping[tuple[str, str], Judged], systems: Sequence[System], bonafide: Any
) -> list[list[str]]:
    """System, channel and operating point a line: who is flagged, what passes, what is withheld."""
    rows = []
    for each, channel in ((each, channel) for each in systems for channel in CHANNELS):
        points = () if each.detector is None else each.detector.manifest.operating_points
        llr = found[each.name, channel].values
        for point in points:
            rule = Rule(None, point)
            said = np.array([rule.label(value, value).value for value in llr])
            shares = (
                np.mean(said[bonafide] == Label.SPOOF.value),
                np.mean(said[~bonafide] == Label.BONAFIDE.value),
                np.mean(said == Label.INCONCLUSIVE.value),
            )
            cells = [f"{100 * share:.1f}" for share in shares]
            rows.append([f"{each.name}, {CHANNEL_TITLES[channel]}", point.name, *cells])
    return rows


def error(numbers: Figures) -> str:
    """EER in per cent with its interval."""
    return percent(numbers["eer"], (numbers["eer_low"], numbers["eer_high"]))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for bundles and scores")
    parser.add_argument("--base", default=DEFAULTS[Use.FILES], help="what Detector.load takes")
    parser.add_argument("--small", default=DEFAULTS[Use.LIVE], help="what Detector.load takes")
    parser.add_argument("--systems", nargs="*", default=[], help="to stand beside them")
    parser.add_argument("--wild", type=Path, default=SHARED / "wild-dev")
    parser.add_argument("--corpus", type=Path, default=SHARED / "corpus")
    parser.add_argument("--fixtures", type=Path, default=SHARED / "fixtures")
    parser.add_argument("--cache", type=Path, help="work folder of the recipe, for cues")
    parser.add_argument("--fold", type=int, default=3, help="that cues does not train on")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--markdown", action="store_true", help="print tables as Markdown")
    parser.add_argument("--plots", type=Path, help="folder for PNG plots")
    return parser.parse_args()


def print_tables(
    trials: Trials,
    found: Mapping[tuple[str, str], Judged],
    systems: Sequence[System],
    lines: Sequence[Target],
    *,
    markdown: bool,
) -> None:
    """All tables, as text or as Markdown."""
    models = [each.name for each in systems[:2]]
    counts = f"{int(trials.bonafide.sum())} human, {int((~trials.bonafide).sum())} synthetic clips"
    head = ["system", "EER % (95 %)", "minDCF", "actDCF", "actDCF / minDCF", "Cllr", "min Cllr"]
    title = f"wild-dev, {counts}, first 4 s"
    print(table(title, head, figure_rows(found), markdown=markdown))
    head = ["part", *(f"{name}, {CHANNEL_TITLES[c]}" for name in models for c in CHANNELS)]
    title = "EER % (95 %) of a part of the synthetic clips against all human ones"
    print(table(title, head, part_rows(found, models), markdown=markdown))
    head = ["system", "operating point", "people flagged %", "fakes passed %", "withheld %"]
    rows = point_rows(found, systems, trials.bonafide)
    print(table("at the operating points, of all clips", head, rows, markdown=markdown))
    rows = [
        [each.what, *(shown(v, each.unit) for v in (each.value, each.must, each.goal)), each.met]
        for each in lines
    ]
    title = f"targets; base is {models[0]}, small is {models[1]}"
    head = ["target", "found", "must", "goal", "met"]
    print(table(title, head, rows, markdown=markdown))


def main() -> None:
    args = arguments()
    trials = READERS["wild-dev"](args)
    heard = {row["system"].lower() for row in read_manifest(args.corpus / "manifest.csv")}
    parts = subsets(trials.rows, heard)
    systems = [system(name, args) for name in (args.base, args.small, *args.systems)]
    if len({each.name for each in systems}) < len(systems):
        raise SystemExit("Each system needs a name of its own: that of its folder counts.")
    found = {
        (each.name, channel): judge(each, trials, channel, parts, args.out / "scores")
        for each in systems
        for channel in CHANNELS
    }
    models = [each.name for each in systems[:2]]
    by_role = dict(zip(("base", "small"), systems, strict=False))
    lines = targets(
        *({c: found[name, c] for c in CHANNELS} for name in models),
        size_mb={"base": megabytes(args.base), "small": megabytes(args.small)},
        window_ms=core_ms({role: each.detector for role, each in by_role.items()}),
    )
    print_tables(trials, found, systems, lines, markdown=args.markdown)
    report = {
        "systems": {f"{a}, {b}": {**j.numbers, "parts": j.parts} for (a, b), j in found.items()},
        "targets": [{**asdict(each), "met": each.met} for each in lines],
    }
    write_json(args.json, report)
    if args.plots:
        judged = {key: each.values for key, each in found.items()}
        plots.draw_all(args.plots, trials, judged, systems[:2], parts[UNSEEN])


if __name__ == "__main__":
    main()
