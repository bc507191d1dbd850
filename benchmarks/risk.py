r"""When to say "cannot judge": what withholding the least sure verdicts is worth, and calibration.

    python benchmarks/risk.py --out work/risk --markdown --plot docs/risk.png

Each clip of the corpus' held-out fold and of ``wild-dev``, first window, clean and by telephone, is
judged at ``balanced`` with the gate open. A measure of doubt then orders the clips, and the error
is counted on those that it leaves: the risk-coverage curve. The measures (``_doubts.py``):

- distance of the llr from the threshold;
- the gate's own measurements: seconds of speech, SNR, share of clipped samples, music;
- how far the embedding lies from those of the corpus' training clips: by the nearest class in
  Mahalanobis distance with one covariance for both (Lee et al., "A simple unified framework for
  detecting out-of-distribution samples and adversarial attacks", 2018), and by the mean cosine
  distance to the ten nearest clips (after Sun et al., "Out-of-distribution detection with deep
  nearest neighbors", 2022);
- a logistic model of "is this verdict wrong" on all of these, fitted on the held-out fold; there it
  is judged by cross-validation over engine families and origins.

Nothing is fitted on ``wild-dev``. ``error`` is the mean of both classes' error rates, so that
withholding one class only gains nothing. Windows are stored a set at a time.
"""

from __future__ import annotations

import argparse
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from _doubts import (
    Clip,
    Distance,
    Windows,
    crossed_risk,
    doubts,
    features,
    hear,
    risk_model,
    stored,
)
from _held_out import (
    CHANNEL_TITLES,
    SHARED,
    Floats,
    Held,
    Samples,
    even,
    parser,
    percent,
    table,
    write_json,
)
from voiceguard import metrics
from voiceguard.audio import read
from voiceguard.audio.gate import GatePolicy
from voiceguard.training.corpus import read_manifest

COVERAGE = 0.8
RESAMPLES = 300


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """Error among the clips that are kept, by how many are kept.

    Parameters
    ----------
    coverage : np.ndarray [shape=(n,)]
        1/n to 1.
    risk : np.ndarray [shape=(n,)]
        Error rate of the surest clips; the class-balanced one where a class was given.
    """

    coverage: Floats
    risk: Floats

    def at(self, coverage: float) -> float:
        """Error with the surest share of clips kept, rounded up to a clip."""
        return float(self.risk[int(np.ceil(coverage * len(self.risk) - 1e-9)) - 1])

    @property
    def area(self) -> float:
        """Mean risk over all coverages (Geifman and El-Yaniv, "Selective classification", 2017)."""
        return float(self.risk.mean())


def risk_coverage(
    doubt: Floats, wrong: np.ndarray, bonafide: np.ndarray | None = None
) -> RiskCoverage:
    """Risk-coverage curve of a measure of doubt.

    Parameters
    ----------
    doubt : np.ndarray [shape=(n,)]
        The highest are withheld first; of equals the later ones.
    wrong : np.ndarray [shape=(n,), dtype=bool]
        Whether each verdict is wrong.
    bonafide : np.ndarray [shape=(n,), dtype=bool], optional
        With it the risk is the mean of the two classes' error rates.

    Returns
    -------
    RiskCoverage
    """
    order = np.argsort(doubt, kind="stable")
    errors = wrong[order].astype(np.float64)
    coverage = np.arange(1, len(errors) + 1) / len(errors)
    if bonafide is None:
        return RiskCoverage(coverage, np.cumsum(errors) / np.arange(1, len(errors) + 1))
    halves = []
    for chosen in (bonafide[order], ~bonafide[order]):
        # A class of which nothing is kept yet has no error.
        halves.append(np.cumsum(errors * chosen) / np.maximum(np.cumsum(chosen), 1))
    return RiskCoverage(coverage, (halves[0] + halves[1]) / 2)


def selective(doubt: Floats, windows: Windows, threshold: float, *, seed: int) -> dict[str, Any]:
    """Error at full and at 80 % coverage, their ratio with an interval, and who is withheld."""
    wrong = windows.wrong(threshold)
    curve = risk_coverage(doubt, wrong, windows.bonafide)
    kept = np.zeros(len(doubt), dtype=bool)
    kept[np.argsort(doubt, kind="stable")[: int(np.ceil(COVERAGE * len(doubt) - 1e-9))]] = True
    low, high = ratio_interval(doubt, wrong, windows, seed=seed)
    return {
        "error": curve.at(1.0),
        "error at 80 %": curve.at(COVERAGE),
        "ratio": curve.at(COVERAGE) / max(curve.at(1.0), 1e-12),
        "ratio low": low,
        "ratio high": high,
        "area": curve.area,
        "human withheld": float(np.mean(~kept[windows.bonafide])),
        "synthetic withheld": float(np.mean(~kept[~windows.bonafide])),
    }


def ratio_interval(
    doubt: Floats, wrong: np.ndarray, windows: Windows, *, seed: int
) -> tuple[float, float]:
    """95 % bootstrap interval of the ratio, groups of clips drawn whole."""
    rng = np.random.default_rng(seed)
    names, place = np.unique(windows.groups, return_inverse=True)
    members = [np.flatnonzero(place == i) for i in range(len(names))]
    ratios = []
    for _ in range(RESAMPLES):
        drawn = rng.integers(len(members), size=len(members))
        chosen = np.concatenate([members[i] for i in drawn])
        curve = risk_coverage(doubt[chosen], wrong[chosen], windows.bonafide[chosen])
        ratios.append(curve.at(COVERAGE) / max(curve.at(1.0), 1e-12))
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)


def calibration_figures(windows: Windows) -> dict[str, Any]:
    """How good and how honest the llr is."""
    b, s = windows.llr[windows.bonafide], windows.llr[~windows.bonafide]
    reliability = metrics.ece(b, s, n_bins=10)
    return {
        "n": [len(b), len(s)],
        "eer": float(metrics.eer(b, s)),
        "min_dcf": float(metrics.min_dcf(b, s)),
        "act_dcf": float(metrics.act_dcf(b, s)),
        "min_cllr": float(metrics.min_cllr(b, s)),
        "cllr": float(metrics.cllr(b, s)),
        "ece": reliability.value,
        "reliability": [
            [one.p_spoof, one.spoof_share, one.n_bonafide, one.n_spoof] for one in reliability.bins
        ],
    }


def sets(held: Held, wild: Path, limit: int) -> dict[str, tuple[list[Clip], list[dict[str, str]]]]:
    """Clips and manifest rows of each set to judge on, and of the training clips."""
    found = {}
    for name, rows in (("training", held.rows.train), ("held-out fold", held.rows.held_out)):
        rows = rows[even(len(rows), limit)]
        clips = [functools.partial(held.corpus.clip, int(i)) for i in rows]
        found[name] = (clips, [held.corpus.rows[i] for i in rows])
    if (wild / "manifest.csv").is_file():
        listed = read_manifest(wild / "manifest.csv")
        listed = [listed[i] for i in even(len(listed), limit)]
        found["wild-dev"] = ([functools.partial(_first, wild / r["path"]) for r in listed], listed)
    return found


def hear_sets(held: Held, args: argparse.Namespace) -> dict[str, dict[str, Windows]]:
    """Windows by set and channel; stored ones are read."""
    key = held.key(clips=args.clips, wild=str(args.wild.name))
    found: dict[str, dict[str, Windows]] = {}
    for name, (clips, rows) in sets(held, args.wild, args.clips).items():
        for channel in args.channels:
            path = args.out / f"risk_{name.replace(' ', '_')}_{channel}_{key}.npz"
            make = functools.partial(
                hear, held.detector, clips, rows, channel, measured=name != "training"
            )
            found.setdefault(name, {})[channel] = stored(path, make)
    return found


def judge(
    heard: dict[str, dict[str, Windows]], threshold: float, *, seed: int
) -> tuple[dict[str, Any], dict[str, RiskCoverage]]:
    """Figures by set and channel, and the curves to draw."""
    train = list(heard["training"].values())
    distance = Distance(
        np.concatenate([each.embedding for each in train]),
        np.concatenate([each.bonafide for each in train]),
    )
    fit = list(heard["held-out fold"].values())
    x = np.concatenate([features(each, distance, threshold) for each in fit])
    wrong = np.concatenate([each.wrong(threshold) for each in fit])
    families = np.concatenate([each.families for each in fit])
    model = risk_model().fit(x, wrong)
    crossed = iter(np.split(crossed_risk(x, wrong, families), len(fit)))
    found, curves = {}, {}
    for name in (name for name in heard if name != "training"):
        for channel, windows in heard[name].items():
            measures = doubts(windows, distance, threshold)
            measures["risk model"] = (
                next(crossed)
                if name == "held-out fold"
                else model.decision_function(features(windows, distance, threshold))
            )
            title = f"{name}, {CHANNEL_TITLES[channel]}"
            found[title] = {
                "calibration": calibration_figures(windows),
                "selective": {
                    measure: selective(doubt, windows, threshold, seed=seed)
                    for measure, doubt in measures.items()
                },
            }
            for measure, doubt in measures.items():
                curves[f"{title}: {measure}"] = risk_coverage(
                    doubt, windows.wrong(threshold), windows.bonafide
                )
    return found, curves


def calibration_table(found: dict[str, Any], *, markdown: bool) -> str:
    head = ["set", "clips", "EER %", "minDCF", "actDCF", "minCllr", "Cllr", "ECE"]
    names = ("min_dcf", "act_dcf", "min_cllr", "cllr", "ece")
    rows = [
        [title, f"{of['n'][0]} + {of['n'][1]}", percent(of["eer"])]
        + [f"{of[name]:.3f}" for name in names]
        for title, of in ((title, each["calibration"]) for title, each in found.items())
    ]
    return table("Calibration, human + synthetic clips", head, rows, markdown=markdown)


def selective_table(found: dict[str, Any], *, markdown: bool) -> str:
    head = ["set", "withheld first", "error at 100 %", "at 80 %", "ratio (95 %)", "mean over all"]
    head += ["human withheld", "synthetic withheld"]
    rows = []
    for title, each in found.items():
        for measure, of in each["selective"].items():
            ratio = f"{of['ratio']:.2f} ({of['ratio low']:.2f} to {of['ratio high']:.2f})"
            cells = [percent(of["error"]), percent(of["error at 80 %"]), ratio]
            cells += [
                percent(of[name]) for name in ("area", "human withheld", "synthetic withheld")
            ]
            rows.append([title, measure, *cells])
    title = "Error at `balanced`, %, with all clips and with the surest 80 %"
    return table(title, head, rows, markdown=markdown)


def plot(found: dict[str, Any], curves: dict[str, RiskCoverage], path: Path) -> None:
    """Risk against coverage on the last set, clean and by telephone; reliability of all."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.4), layout="constrained")
    *risks, right = figure.subplots(1, 3)
    for axes, title in zip(risks, list(found)[-2:], strict=False):
        for measure, of in found[title]["selective"].items():
            curve = curves[f"{title}: {measure}"]
            # The first few clips say nothing.
            shown = curve.coverage >= 0.1
            width = 2.2 if measure in ("risk model", "distance to the threshold") else 1.0
            label = f"{measure} ({of['ratio']:.2f})"
            axes.plot(
                100 * curve.coverage[shown], 100 * curve.risk[shown], linewidth=width, label=label
            )
        axes.axvline(100 * COVERAGE, color="0.8", linewidth=0.8)
        axes.set(title=title, xlabel="coverage (%)", ylabel="error (%)", ylim=(0, None))
        axes.legend(frameon=False, fontsize=7, title="ratio at 80 % in brackets", title_fontsize=7)
    right.plot([0, 1], [0, 1], color="0.7", linewidth=0.8)
    for title, each in found.items():
        stated, seen = np.array(each["calibration"]["reliability"])[:, :2].T
        right.plot(stated, seen, "o-", markersize=3, label=title)
    right.set(title="reliability", xlabel="stated p_spoof", ylabel="share synthetic, equal priors")
    right.legend(frameon=False, fontsize=7)
    for axes in (*risks, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def _first(path: Path) -> Samples:
    return read(path).samples[0]


def main() -> None:
    made = parser(__doc__, clips=2000, clips_help="clips a set by even stride, 0 for all")
    made.add_argument("--wild", type=Path, default=SHARED / "wild-dev")
    args = made.parse_args()
    held = Held.open(args, GatePolicy.open())
    points = {point.name: point for point in held.detector.manifest.operating_points}
    if "balanced" not in points:
        raise SystemExit(f"{args.system}: no operating point 'balanced'; calibrate the bundle.")
    found, curves = judge(hear_sets(held, args), points["balanced"].threshold, seed=args.seed)
    for show in (calibration_table, selective_table):
        print(show(found, markdown=args.markdown))
    plot(found, curves, args.plot or args.out / "risk.png")
    write_json(args.json, found)


if __name__ == "__main__":
    main()
