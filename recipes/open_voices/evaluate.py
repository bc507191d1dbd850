"""Judge shipped bundles on a folder that nobody trained on, clean and through a telephone.

    python evaluate.py --data ../../../shared/wild-dev --data_folder ../../../shared/corpus \
        --work work --systems vg-base,PATH_TO_BUNDLE,cues

Each system scores every clip through :class:`voiceguard.Detector` with the quality gate open, so
that the figures stand for all clips; what the gate would have withheld is printed beside them. The
first table has each system on both channels, the second the first system by kind and by whether the
corpus names the engine. Intervals: bootstrap over groups of clips, 95 %. With ``--results`` one row
a system and channel is appended to a CSV.
"""

from __future__ import annotations

import argparse
import csv
import datetime
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from cues import cues, fit_cue_model
from split import split

import voiceguard
from voiceguard import metrics
from voiceguard.audio import read
from voiceguard.audio.gate import GatePolicy, gate
from voiceguard.audio.telephony import g711_path
from voiceguard.results import ChannelResult
from voiceguard.training.corpus import open_corpus, read_manifest

Samples = npt.NDArray[np.float32]
Scorer = Callable[[Samples], tuple[float, bool, bool]]
SAMPLE_RATE = 16_000
CHANNELS: dict[str, Callable[[Samples], Samples]] = {"clean": lambda x: x, "g711": g711_path}


@dataclass(frozen=True)
class Scores:
    """One system on one channel: llr (or score), which clips the gate withholds."""

    values: npt.NDArray[np.float64]
    withheld: npt.NDArray[np.bool_]
    calibrated: bool


def detector_scorer(name: str) -> Scorer:
    """Score with a bundle, the gate open; withheld is what the default gate says."""
    opened = voiceguard.Detector.load(name, policy=GatePolicy.open())

    def score(x: Samples) -> tuple[float, bool, bool]:
        channel = opened.score((x, SAMPLE_RATE)).channels[0]
        value = channel.score if channel.llr is None else channel.llr
        if value is None:
            raise SystemExit(f"{name}: a clip could not be scored with the gate open.")
        return value, would_withhold(channel), channel.llr is not None

    return score


def would_withhold(channel: ChannelResult) -> bool:
    """Whether the default gate lets no verdict through."""
    windows = [each.quality for each in channel.segments if each.quality is not None]
    return gate(channel.quality, whole=True).blocked or all(
        gate(quality, whole=False).blocked for quality in windows
    )


def cue_scorer(data_folder: Path, work: Path, fold: int) -> Scorer:
    """Score with the cue-only model, trained on the recipe's training clips."""
    corpus = open_corpus(data_folder, work / "cache")
    tree = fit_cue_model(corpus, split(corpus.rows, fold).train)
    return lambda x: (float(tree.decision_function(cues(x)[None])[0]), False, False)


def score_all(scorer: Scorer, clips: list[Samples]) -> Scores:
    """Scores of all clips by one system."""
    values, withheld, calibrated = zip(*(scorer(x) for x in clips), strict=True)
    return Scores(np.array(values), np.array(withheld), all(calibrated))


def figures(
    scores: Scores, bonafide: npt.NDArray[np.bool_], groups: npt.NDArray[np.str_]
) -> dict[str, float]:
    """EER with interval, minDCF, and actDCF and Cllr where the score is an llr."""
    b, s = scores.values[bonafide], scores.values[~bonafide]
    interval = metrics.bootstrap(
        metrics.eer,
        b,
        s,
        bonafide_groups=groups[bonafide],
        spoof_groups=groups[~bonafide],
        n_resamples=500,
    )
    found = {
        "eer": metrics.eer(b, s).value,
        "eer_low": interval.low,
        "eer_high": interval.high,
        "min_dcf": metrics.min_dcf(b, s).value,
    }
    if scores.calibrated:
        found |= {"act_dcf": metrics.act_dcf(b, s).value, "cllr": metrics.cllr(b, s).value}
    return found


def print_row(title: str, found: dict[str, float], withheld: float | None = None) -> None:
    """One line of a table."""
    interval = f"({100 * found['eer_low']:.1f} to {100 * found['eer_high']:.1f})"
    rest = "".join(
        f"{found[name]:9.3f}" if name in found else f"{'-':>9}"
        for name in ("min_dcf", "act_dcf", "cllr")
    )
    gate = "" if withheld is None else f"{100 * withheld:10.1f}"
    print(f"{title:<34}{100 * found['eer']:7.1f}  {interval:<16}{rest}{gate}")


def subsets(rows: list[dict[str, str]], heard: set[str]) -> dict[str, npt.NDArray[np.bool_]]:
    """Which spoof clips stand in each part of the second table."""
    kind = np.array([row["kind"] for row in rows])
    unseen = np.array([row["system"].lower() not in heard for row in rows])
    spoof = np.array([row["label"] == "spoof" for row in rows])
    parts = {name: kind == name for name in sorted(set(kind[spoof]))}
    return {
        **parts,
        "systems that the corpus lacks": spoof & unseen,
        "systems that it names": spoof & ~unseen,
    }


def append_results(path: Path, rows: list[dict[str, object]]) -> None:
    """Append to the results table, with a header where it is new."""
    new = not path.is_file()
    names = ["date", "system", "data", "channel", "eer", "eer_low", "eer_high"]
    names += ["min_dcf", "act_dcf", "cllr"]
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=names, restval="")
        if new:
            writer.writeheader()
        writer.writerows(rows)


def plot(folder: Path, details: list[tuple[str, Scores]], bonafide: npt.NDArray[np.bool_]) -> None:
    """DET curves of all systems, and the first system's scores."""
    folder.mkdir(parents=True, exist_ok=True)
    curves = {title: (s.values[bonafide], s.values[~bonafide]) for title, s in details}
    metrics.plot_det(curves, folder / "det.png")
    metrics.plot_scores(*next(iter(curves.values())), folder / "scores.png")


@dataclass(frozen=True)
class Trials:
    """The clips that all systems are judged on."""

    rows: list[dict[str, str]]
    clips: list[Samples]
    bonafide: npt.NDArray[np.bool_]
    groups: npt.NDArray[np.str_]

    @classmethod
    def read(cls, folder: Path, seconds: float) -> Trials:
        """All clips of a folder with a ``manifest.csv``, their first `seconds`."""
        rows = read_manifest(folder / "manifest.csv")
        length = int(seconds * SAMPLE_RATE)
        return cls(
            rows,
            [read(folder / row["path"]).samples[0][:length] for row in rows],
            np.array([row["label"] == "bonafide" for row in rows]),
            np.array([row["group"] for row in rows]),
        )


def judge(
    trials: Trials, scorers: dict[str, Scorer]
) -> dict[tuple[str, str], tuple[Scores, dict[str, float]]]:
    """Scores and figures of each system on each channel, with a line of the first table each."""
    print(
        f"{'system, channel':<34}{'EER %':>7}  {'95 %':<16}{'minDCF':>9}{'actDCF':>9}{'Cllr':>9}"
        f"{'withheld %':>11}"
    )
    found = {}
    for name, scorer in scorers.items():
        for channel, path in CHANNELS.items():
            scores = score_all(scorer, [path(x) for x in trials.clips])
            numbers = figures(scores, trials.bonafide, trials.groups)
            print_row(f"{name}, {channel}", numbers, scores.withheld.mean())
            found[name, channel] = scores, numbers
    return found


def print_parts(trials: Trials, channel: str, scores: Scores, heard: set[str]) -> None:
    """The second table: one part of the spoof clips against all human ones."""
    for part, chosen in subsets(trials.rows, heard).items():
        if chosen.any():
            keep = trials.bonafide | chosen
            kept = Scores(scores.values[keep], scores.withheld[keep], scores.calibrated)
            numbers = figures(kept, trials.bonafide[keep], trials.groups[keep])
            print_row(f"{channel}: {part} ({int(chosen.sum())})", numbers)


def result_row(
    data: str, system: str, channel: str, numbers: dict[str, float]
) -> dict[str, object]:
    """One row of the results table."""
    return {
        "date": datetime.date.today().isoformat(),
        "system": system,
        "data": data,
        "channel": channel,
        **{name: round(value, 4) for name, value in numbers.items()},
    }


def write_scores(folder: Path, trials: Trials, system: str, channel: str, scores: Scores) -> None:
    """A score file in the form of ASVspoof 2021: trial, score."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = zip(trials.rows, scores.values, strict=True)
    text = "".join(f"{row['id']} {value:.6f}\n" for row, value in pairs)
    (folder / f"{system}_{channel}.txt").write_text(text)


def scorers(args: argparse.Namespace) -> dict[str, Scorer]:
    """What to judge, by the name to print."""
    found: dict[str, Scorer] = {}
    for name in args.systems.split(","):
        if name == "cues":
            found[name] = cue_scorer(args.data_folder, args.work, args.fold)
        else:
            found[Path(name).name] = detector_scorer(name)
    return found


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder to judge on")
    parser.add_argument("--data_folder", type=Path, required=True, help="the training corpus")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--fold", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="judge the first seconds")
    parser.add_argument("--systems", default="vg-base,cues")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--scores", type=Path, help="folder for one score file a system, channel")
    parser.add_argument("--plots", type=Path, help="folder for a DET plot and a score histogram")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    trials = Trials.read(args.data, args.seconds)
    heard = {row["system"].lower() for row in read_manifest(args.data_folder / "manifest.csv")}
    found = judge(trials, scorers(args))
    first = next(iter(found))[0]
    print(f"\n{first} by part, against all human clips")
    for channel in CHANNELS:
        print_parts(trials, channel, found[first, channel][0], heard)
    for (system, channel), (scores, _) in found.items():
        if args.scores:
            write_scores(args.scores, trials, system, channel, scores)
    if args.plots:
        plot(args.plots, [(f"{a}, {b}", s) for (a, b), (s, _) in found.items()], trials.bonafide)
    if args.results:
        lines = [result_row(args.data.name, a, b, n) for (a, b), (_, n) in found.items()]
        append_results(args.results, lines)


if __name__ == "__main__":
    main()
