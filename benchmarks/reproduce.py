r"""The published AASIST weights on recordings that are at hand, beside the bundled model.

    python benchmarks/reproduce.py --out work/reproduce
    python benchmarks/reproduce.py --out work/reproduce --systems aasist --channels clean \
        --protocol ASVspoof2019.LA.cm.eval.trl.txt --audio ASVspoof2019_LA_eval/flac

Two checks. First each graph against the outputs that the published code gave for six waveforms; a
sweep saturates the gates of one network, and which of its tied nodes stay is up to the runtime.
Then error rates on two sets of recordings: three files of ASVspoof 2019 LA, and ``wild-dev``, which
nobody trained on; as recorded and through G.711 at 8 kHz. The published weights hear the first
64,600 samples, as they were published; the bundled model hears 4 s.

Each score goes to a file under ``--out`` as soon as it is known, named after the set, the channel,
the system and the SHA-256 of its graph. A run that was stopped goes on where it stood, and a second
run only counts; delete the file of a system to score it anew. AASIST costs about 0.3 s a clip. With
``--protocol`` and ``--audio`` the trials of a corpus take the place of both sets.

Intervals: 95 %, bootstrap over groups of clips. ``recorded`` is the EER on record for the same set
and channel, ``diff`` the distance from it, both in percent.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import voiceguard
from _held_out import mark
from voiceguard import metrics, protocols
from voiceguard.audio import read
from voiceguard.importers import import_checkpoint
from voiceguard.training.corpus import read_manifest

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "recipes" / "open_voices"
SHARED = ROOT.parent / "shared"
sys.path.insert(0, str(RECIPE))

from evaluate import (  # noqa: E402
    CHANNELS,
    Scorer,
    Scores,
    Trials,
    detector_scorer,
    figures,
)

Floats = npt.NDArray[np.float64]

CHECKPOINTS = {
    "aasist": "AASIST",
    "aasist-l": "AASIST-L",
    "asvspoof5-aasist": "ASVspoof5-AASIST",
}
BUNDLED = "vg-base"
PUBLISHED_SAMPLES = 64_600
OUR_SAMPLES = 64_000
LABELS = {"LA_T_1272637": "bonafide", "LA_D_1003356": "spoof", "LA_E_6163791": "spoof"}
# Measured with the published code and these weights on wild-dev as recorded, first 64,600 samples.
RECORDED = {
    ("wild-dev", "clean", "aasist"): 0.406,
    ("wild-dev", "clean", "asvspoof5-aasist"): 0.291,
}
FEW = 10


def bundle_of(system: str, fixtures: Path, out: Path) -> str:
    """Name or folder for the Detector; a checkpoint is converted once and kept."""
    if system not in CHECKPOINTS:
        return system
    checkpoint = fixtures / "aasist" / f"{CHECKPOINTS[system]}.pth"
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:12]
    folder = out / "bundles" / f"{system}-{digest}"
    if not (folder / "bundle.json").is_file():
        import_checkpoint("aasist", checkpoint, out=folder)
    return str(folder)


def deviations(bundle: str, system: str, expected: Path) -> dict[str, tuple[float, float]]:
    """Largest differences from the published code, of each waveform: score, embedding."""
    engine = voiceguard.Detector.load(bundle).engine
    with np.load(expected) as archive:
        logits = archive[f"{CHECKPOINTS[system]}/logits"]
        embeddings = archive[f"{CHECKPOINTS[system]}/embedding"]
        found, vectors = engine.run(archive["waveforms"])
        names = archive["names"].tolist()
    pairs = zip(np.abs(found - logits[:, 1]), np.abs(vectors - embeddings).max(axis=1), strict=True)
    return {name: (float(a), float(b)) for name, (a, b) in zip(names, pairs, strict=True)}


@dataclass(frozen=True)
class Clips(Sequence[npt.NDArray[np.float32]]):
    """First channels of files, each read when it is asked for."""

    paths: list[Path]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> npt.NDArray[np.float32]:
        return read(self.paths[index]).samples[0]


def asvspoof_trials(folder: Path) -> Trials:
    """Three files of the 2019 LA corpus, each a group of its own."""
    rows = [
        {"id": name, "path": f"{name}.flac", "label": label, "group": name}
        for name, label in LABELS.items()
    ]
    return trials_of(rows, folder)


def corpus_trials(args: argparse.Namespace) -> Trials:
    """The trials of a protocol, grouped by speaker."""
    layout = args.format or protocols.guess_format(args.protocol)
    rows = [
        {
            "id": trial.utterance,
            "path": trial.path or f"{trial.utterance}.flac",
            "label": str(trial.label),
            "group": trial.speaker or trial.utterance,
        }
        for trial in protocols.read_trials(args.protocol, layout, subset=args.subset)
    ]
    return trials_of(rows, args.audio)


def trials_of(rows: list[dict[str, str]], folder: Path) -> Trials:
    """Trials whose audio lies in a folder, whole."""
    return Trials(
        rows,
        Clips([folder / row["path"] for row in rows]),
        np.array([row["label"] == "bonafide" for row in rows]),
        np.array([row["group"] for row in rows]),
    )


def known_scores(path: Path) -> dict[str, float]:
    """Scores in a file that may have been cut off within a line; that line is removed."""
    if not path.is_file():
        return {}
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    return protocols.read_scores(path, "asvspoof2021") if whole else {}


def score(trials: Trials, channel: str, bundle: str, samples: int, path: Path) -> Floats:
    """Scores of all trials by a bundle; each is written at once and never computed twice."""
    return scores_by(lambda: detector_scorer(bundle), trials, channel, samples, path)


def scores_by(
    make_scorer: Callable[[], Scorer], trials: Trials, channel: str, samples: int, path: Path
) -> Floats:
    """Scores of all trials by what is made only where some are missing."""
    names = [row["id"] for row in trials.rows]
    known = known_scores(path)
    missing = [(i, name) for i, name in enumerate(names) if name not in known]
    if missing:
        path.parent.mkdir(parents=True, exist_ok=True)
        scorer = make_scorer()
        with path.open("a") as file:
            for index, name in missing:
                known[name] = scorer(CHANNELS[channel](trials.clips[index][:samples]))[0]
                file.write(f"{name} {known[name]!r}\n")
                file.flush()
    return np.array([known[name] for name in names])


def area_under_roc(bonafide: Floats, spoof: Floats) -> float:
    """Chance that a bona fide trial scores above a spoof trial, ties counted half."""
    curve = metrics.roc(bonafide, spoof)
    heights = 1 - (curve.miss_rate[1:] + curve.miss_rate[:-1]) / 2
    return float(np.sum(heights * -np.diff(curve.false_alarm_rate)))


def all_figures(trials: Trials, values: Floats, *, calibrated: bool) -> dict[str, float]:
    """Every metric that needs no speaker verification beside it."""
    scores = Scores(values, np.zeros(len(values), bool), calibrated)
    b, s = values[trials.bonafide], values[~trials.bonafide]
    return {
        **figures(scores, trials.bonafide, trials.groups),
        "min_cllr": metrics.min_cllr(b, s).value,
        "auc": area_under_roc(b, s),
    }


def recorded_eer(data: str, channel: str, system: str) -> float | None:
    """EER on record, in [0, 1]: of the bundled model the last one in the recipe's table."""
    if (data, channel, system) in RECORDED:
        return RECORDED[data, channel, system]
    with (RECIPE / "judged.csv").open(newline="") as file:
        rows = [
            float(row["eer"])
            for row in csv.DictReader(file)
            if (row["data"], row["channel"], row["system"]) == (data, channel, system)
        ]
    return rows[-1] if rows else None


def title_line() -> str:
    names = ("minDCF", "actDCF", "Cllr", "minCllr", "AUC")
    right = "".join(f"{name:>9}" for name in names)
    return (
        f"{'set, channel, system':<36}{'EER %':>7}  {'95 %':<16}{right}{'recorded':>10}{'diff':>7}"
    )


def line(row: dict[str, object]) -> str:
    """One line of the table."""

    def cell(name: str) -> str:
        return f"{row[name]:9.3f}" if name in row else f"{'-':>9}"

    title = f"{row['set']}, {row['channel']}, {row['system']}"
    interval = f"({100 * row['eer_low']:.1f} to {100 * row['eer_high']:.1f})"
    numbers = "".join(cell(name) for name in ("min_dcf", "act_dcf", "cllr", "min_cllr", "auc"))
    known = row.get("recorded")
    end = (
        f"{'-':>10}{'-':>7}"
        if known is None
        else (f"{100 * known:10.1f}{100 * (row['eer'] - known):+7.1f}")
    )
    return f"{title:<36}{100 * row['eer']:7.1f}  {interval:<16}{numbers}{end}"


def print_scores(row: dict[str, object]) -> None:
    """Scores by name, where they are few enough to read."""
    if len(row["scores"]) <= FEW:
        print(" " * 36 + ", ".join(f"{name} {value:.2f}" for name, value in row["scores"].items()))


def judge(
    data: str, trials: Trials, channel: str, system: str, bundle: str, out: Path
) -> dict[str, object]:
    """Scores and figures of one system on one set through one channel."""
    detector = voiceguard.Detector.load(bundle)
    samples = PUBLISHED_SAMPLES if system in CHECKPOINTS else OUR_SAMPLES
    name = f"{data}_{channel}_{Path(system).name}_{mark(detector)}.txt"
    values = score(trials, channel, bundle, samples, out / "scores" / name)
    calibrated = detector.manifest.calibration is not None
    row: dict[str, object] = {
        "set": data,
        "channel": channel,
        "system": Path(system).name,
        "n_bonafide": int(trials.bonafide.sum()),
        "n_spoof": int((~trials.bonafide).sum()),
        "scores": dict(zip((row["id"] for row in trials.rows), values.tolist(), strict=True)),
        **all_figures(trials, values, calibrated=calibrated),
    }
    known = recorded_eer(data, channel, system)
    return row if known is None else {**row, "recorded": known}


def print_parity(bundles: dict[str, str], expected: Path) -> dict[str, object]:
    """First table: differences from the published code, by system and waveform."""
    print(f"{'difference from the published code':<36}{'score':>9}{'embedding':>11}")
    found: dict[str, object] = {}
    for system in (name for name in bundles if name in CHECKPOINTS):
        found[system] = rows = deviations(bundles[system], system, expected)
        for name, (of_score, of_embedding) in rows.items():
            print(f"{f'{system}, {name}':<36}{of_score:9.1e}{of_embedding:11.1e}")
    return found


def choices(names: Iterable[str]) -> object:
    """Parser of a comma-separated list of known names."""
    known = list(names)

    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        if set(chosen) - set(known):
            raise argparse.ArgumentTypeError(f"{text!r}: choose among {', '.join(known)}")
        return chosen

    return parse


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for bundles and scores")
    parser.add_argument("--sets", type=choices(READERS), default=list(READERS))
    parser.add_argument(
        "--systems",
        type=lambda text: text.split(","),
        default=[*CHECKPOINTS, BUNDLED],
        help=f"{', '.join(CHECKPOINTS)}, or what Detector.load takes",
    )
    parser.add_argument("--channels", type=choices(CHANNELS), default=list(CHANNELS))
    parser.add_argument("--fixtures", type=Path, default=SHARED / "fixtures")
    parser.add_argument("--wild", type=Path, default=SHARED / "wild-dev")
    parser.add_argument("--protocol", type=Path, help="of a corpus, in place of the sets")
    parser.add_argument("--format", help="of the protocol; told by its first line")
    parser.add_argument("--subset", help="eval, progress, hidden or all, where there are any")
    parser.add_argument("--audio", type=Path, help="folder of the corpus' audio")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    args = parser.parse_args()
    if (args.protocol is None) != (args.audio is None):
        parser.error("--protocol and --audio go together")
    return args


READERS: dict[str, Callable[[argparse.Namespace], Trials]] = {
    "asvspoof": lambda args: asvspoof_trials(args.fixtures / "asvspoof"),
    "wild-dev": lambda args: trials_of(read_manifest(args.wild / "manifest.csv"), args.wild),
}


def sets(args: argparse.Namespace) -> dict[str, Callable[[argparse.Namespace], Trials]]:
    """What to judge on, by name."""
    if args.protocol is not None:
        return {args.protocol.stem: corpus_trials}
    return {name: READERS[name] for name in args.sets}


def main() -> None:
    args = arguments()
    bundles = {name: bundle_of(name, args.fixtures, args.out) for name in args.systems}
    parity = print_parity(bundles, args.fixtures / "aasist" / "expected.npz")
    print(f"\n{title_line()}")
    rows = []
    for data, reader in sets(args).items():
        trials = reader(args)
        for channel in args.channels:
            for system, bundle in bundles.items():
                rows.append(judge(data, trials, channel, system, bundle, args.out))
                print(line(rows[-1]), flush=True)
                print_scores(rows[-1])
    if args.json:
        args.json.write_text(json.dumps({"parity": parity, "figures": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
