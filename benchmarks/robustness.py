r"""Error rates of detectors when a recording is disturbed, condition by condition.

    python benchmarks/robustness.py --data ../shared/wild-dev --systems vg-base --clips 160 \
        --out work/robustness --markdown --plot docs/robustness.png

Some eighty conditions, each one change at one strength: noise, rooms, telephone lines, every codec
that training knows at every rate, chains of two codecs, resampling, speed, tempo and pitch,
clipping, silence, level, replay by a simulated device, lost packets. Each is drawn from
(``--seed``, condition, clip). With ``--network`` comes a white-box attack on the network in that
file, on ``--attack-clips`` of the synthetic clips; the bundles then hear what was made against it.

A system hears one window: the first of each clip, through its own graph and calibration, without
the quality gate. ``--clips`` clips are used, half of either class, evenly over the systems.

Every row goes to ``results.csv`` in ``--out`` as soon as it is known, and the disturbed audio to
``audio`` beside it (20 MB a condition for 160 clips): a run that was stopped goes on, a second one
only prints, another system hears the same audio. Remove both after a change of a condition.

Intervals: 95 %, bootstrap over groups of clips. ``flagged`` is the share of human clips called
spoof, ``passed`` that of synthetic clips called human: at the bundle's operating point
``balanced``, and, ``own line``, at the threshold of the system's own EER on clean clips.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from _conditions import ATTACK_SNRS_DB, CLEAN, attack_name, choose, conditions
from _held_out import Floats, percent, table
from _sounds import Attack, Job, Maker, Sound
from _trials import (
    Scores,
    System,
    Trials,
    balanced_rows,
    bundle_system,
    chosen_rows,
    data_options,
    figures,
    read_trials,
)
from voiceguard import Detector, metrics

TEXT = ("system", "sha256", "rules", "key", "condition", "group")
NUMBERS = (
    "n_bonafide", "n_spoof", "eer", "eer_low", "eer_high", "min_dcf", "act_dcf", "cllr",
    "threshold", "flagged", "passed", "flagged_own_line", "passed_own_line",
)  # fmt: skip
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
Figures = dict[str, Any]


class Results:
    """Rows of a CSV that may have been cut off within a line; that line is removed.

    Parameters
    ----------
    path : Path
        Made at the first row.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Figures] = []
        if path.is_file():
            text = path.read_text("utf-8")
            whole = text[: text.rfind("\n") + 1]
            if whole != text:
                path.write_text(whole, "utf-8")
            self.rows = [_typed(row) for row in csv.DictReader(whole.splitlines())]

    def find(self, system: System, job: Job) -> Figures | None:
        """The row of a system under a condition, where it is known."""
        wanted = _identity(system, job)
        return next((r for r in self.rows if wanted.items() <= r.items()), None)

    def add(self, row: Figures) -> None:
        """Write a row at once."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, (*TEXT, *NUMBERS), restval="", lineterminator="\n")
            if not file.tell():
                writer.writeheader()
            writer.writerow(row)
        self.rows.append(row)


def _typed(row: dict[str, str]) -> Figures:
    return {k: v if k in TEXT else float(v) for k, v in row.items() if v}


def _identity(system: System, job: Job) -> Figures:
    values = (system.name, system.sha256[:12], system.rules, job.key, job.name, job.group)
    return dict(zip(TEXT, values, strict=True))


def measure(system: System, sound: Sound, trials: Trials, own_line: float | None) -> Figures:
    """All figures of a system under one condition.

    Parameters
    ----------
    system : System
    sound : Sound
    trials : Trials
    own_line : float or None
        The threshold of the EER on clean clips; None where these are they.

    Returns
    -------
    dict of str to float
    """
    values = system.score(sound.clips)
    human, groups = trials.bonafide[sound.which], trials.groups[sound.which]
    equal = metrics.eer(values[human], values[~human])
    scores = Scores(values, np.zeros(len(values), bool), system.calibrated)
    found = {
        "n_bonafide": int(human.sum()),
        "n_spoof": int((~human).sum()),
        "threshold": equal.threshold,
        **figures(scores, human, groups),
    }
    # The EER's threshold rejects what lies on it, an operating point does not.
    line = equal.threshold if own_line is None else own_line
    found["flagged_own_line"], found["passed_own_line"] = errors(values <= line, human)
    if system.balanced is not None:
        found["flagged"], found["passed"] = errors(values < system.balanced, human)
    return found


def errors(called_spoof: npt.NDArray[np.bool_], human: npt.NDArray[np.bool_]) -> Floats:
    """Share of human clips called spoof, and of synthetic ones that are not."""
    return np.array([called_spoof[human].mean(), 1.0 - called_spoof[~human].mean()])


def run(
    jobs: Sequence[Job], systems: Sequence[System], trials: Trials, results: Results
) -> Iterator[Figures]:
    """Every row, known ones too; clean comes first, as each system's own line is drawn there."""
    own_line: dict[str, float] = {}
    for job in jobs:
        sound: Sound | None = None
        for system in systems:
            if not system.everywhere and job.group not in (CLEAN, "attack"):
                continue
            row = results.find(system, job)
            if row is None:
                sound = sound or job.make()
                found = measure(system, sound, trials, own_line.get(system.name))
                row = _identity(system, job) | {k: float(v) for k, v in found.items()}
                results.add(row)
            if job.name == CLEAN:
                own_line[system.name] = row["threshold"]
            yield row


def system_table(rows: Sequence[Figures], *, markdown: bool) -> str:
    """The table of one system, with differences to the first row, clean."""
    head = ["condition", "EER % (95 %)", "to clean", "minDCF", "actDCF"]
    head += ["flagged %", "passed %", "own line: flagged %", "passed %"]
    clean = rows[0]
    lines = [
        [
            row["condition"],
            percent(row["eer"], (row["eer_low"], row["eer_high"])),
            "" if row is clean else f"{100 * (row['eer'] - clean['eer']):+.1f}",
            f"{row['min_dcf']:.3f}",
            f"{row['act_dcf']:.3f}" if "act_dcf" in row else "-",
            *(
                percent(row.get(name, np.nan))
                for name in ("flagged", "passed", "flagged_own_line", "passed_own_line")
            ),
        ]
        for row in rows
    ]
    title = (
        f"{clean['system']} ({clean['sha256']}): {clean['n_bonafide']:.0f} human and "
        f"{clean['n_spoof']:.0f} synthetic clips, one window each"
    )
    return table(title, head, lines, markdown=markdown)


def plot(by_system: dict[str, list[Figures]], path: Path) -> None:
    """EER with its interval by condition, a colour a system; a line where the clean EER lies."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row["condition"] for rows in by_system.values() for row in rows))
    figure = Figure(figsize=(7.5, 1.2 + 0.17 * len(names)), layout="constrained")
    axes = figure.subplots()
    for number, ((system, rows), colour) in enumerate(
        zip(by_system.items(), COLOURS, strict=False)
    ):
        at = np.array([names.index(row["condition"]) for row in rows]) + 0.2 * number
        eer, low, high = (
            100 * np.array([row[k] for row in rows]) for k in ("eer", "eer_low", "eer_high")
        )
        axes.hlines(at, low, high, color=colour, linewidth=1.0, alpha=0.6)
        axes.plot(eer, at, "o", color=colour, markersize=3.5, label=system)
        axes.axvline(eer[0], color=colour, linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set(xlabel="EER (%), 95 % interval; dotted: clean", ylim=(len(names) - 0.3, -0.7))
    axes.set_xlim(left=0)
    axes.grid(axis="y", color="0.93", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path, dpi=110)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data_options(parser)
    parser.add_argument("--systems", default="vg-base", help="what Detector.load takes, by commas")
    parser.add_argument("--clips", type=int, default=160, help="0 for all (160)")
    parser.add_argument("--conditions", default="*", help="names or globs, by commas")
    parser.add_argument("--out", type=Path, required=True, help="for results.csv and the audio")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--network", type=Path, help="safetensors of a network to attack")
    parser.add_argument("--attack-steps", type=int, default=20)
    parser.add_argument("--attack-clips", type=int, default=40, help="0 for all synthetic ones")
    parser.add_argument("--markdown", action="store_true", help="print tables as Markdown")
    parser.add_argument("--plot", type=Path, help="PNG to write")
    return parser.parse_args()


def chosen_jobs(pattern: str, maker: Maker, attack: Attack | None) -> list[Job]:
    """What to run: clean, and whatever else the pattern names."""
    found, missing = conditions()
    if missing:
        print(f"no encoder here, left out: {', '.join(missing)}", file=sys.stderr)
    attacks = [] if attack is None else [*attack.jobs(maker, ATTACK_SNRS_DB)]
    jobs = {job.name: job for job in [*map(maker.job, found), *attacks]}
    known = [*jobs, *map(attack_name, () if attacks else ATTACK_SNRS_DB)]
    names = [name for name in choose(known, pattern) if name in jobs]
    return [jobs[name] for name in dict.fromkeys([CLEAN, *names])]


def main() -> None:
    args = arguments()
    detectors = [Detector.load(name) for name in args.systems.split(",")]
    rows = balanced_rows(chosen_rows(args, detectors[0].manifest.provenance), args.clips)
    trials = read_trials(rows, args.data)
    maker = Maker(trials, args.data, args.out, args.seed)
    systems, attack = [bundle_system(detector) for detector in detectors], None
    if args.network:
        window = detectors[0].manifest.window_samples
        attack = Attack(args.network, window, args.attack_steps, args.attack_clips)
        systems.append(attack.system())
    jobs = chosen_jobs(args.conditions, maker, attack)
    by_system: dict[str, list[Figures]] = {}
    for row in run(jobs, systems, trials, Results(args.out / "results.csv")):
        by_system.setdefault(row["system"], []).append(row)
        print(f"{row['system']}, {row['condition']}: {percent(row['eer'])}", file=sys.stderr)
    for found in by_system.values():
        print(system_table(found, markdown=args.markdown))
    if args.plot:
        plot(by_system, args.plot)


if __name__ == "__main__":
    main()
