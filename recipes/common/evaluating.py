"""What every recipe's ``evaluate.py`` does: score a part, write the score file, print the table."""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from pathlib import Path
from typing import Any

import typer
from corpora import CORPORA, Part, find, load_trials, part_of
from hyperpyyaml import load_hyperpyyaml
from ruamel.yaml.error import YAMLError
from systems import load_system

from voiceguard.cli.evaluate import evaluate
from voiceguard.errors import ParameterError, VoiceguardError
from voiceguard.protocols import ScoreRow, write_scores
from voiceguard.training.perturb import build_pipeline
from voiceguard.training.trials import Clips, Files, Perturbed


def _parser(corpus: str) -> argparse.ArgumentParser:
    parts = tuple(CORPORA[corpus].parts)
    subsets = any(part.subsets for part in CORPORA[corpus].parts.values())
    parser = argparse.ArgumentParser(description="Score a part of the corpus and judge the scores.")
    parser.add_argument("--model", type=Path, required=True, help="output_folder of a training")
    parser.add_argument("--data_folder", type=Path, required=True)
    parser.add_argument("--part", choices=parts, default=parts[-1] if not subsets else None)
    parser.add_argument("--subset", help="eval, progress, hidden or all, where there are any")
    parser.add_argument("--out", type=Path, help="folder; the model's own without")
    parser.add_argument("--asv", type=Path, help="ASV scores of the part, in the format of 2019")
    parser.add_argument("--by", action="append", help="break down by this column too")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--perturb", help="YAML list as in training, applied to every clip")
    parser.add_argument("--plot", type=Path, help="folder for DET and score plots")
    return parser


def _listed(text: str) -> Any:
    try:
        return load_hyperpyyaml(f"perturb: {text}")["perturb"]
    except (ValueError, TypeError, YAMLError) as error:
        raise ParameterError(f"--perturb must be a YAML list, {text!r} is none: {error}") from error


def _asv(part: Part, folder: Path) -> Path | None:
    """The corpus' own ASV scores, where it has any and they are there."""
    return next((folder / place for place in part.asv if (folder / place).is_file()), None)


def _score(args: argparse.Namespace, corpus: str, part: Part) -> Path:
    """Write the scores of a part in the corpus' official format."""
    system = load_system(args.model)
    trials = load_trials(part, args.data_folder, args.subset)
    clips: Clips = Files(trials, find(args.data_folder, part.audio, "audio"), suffix=part.suffix)
    if args.perturb:
        clips = Perturbed(clips, build_pipeline(_listed(args.perturb)))
    scores = system.score(trials, clips, batch_size=args.batch_size, device=args.device)
    names = [corpus, args.part, *filter(None, [args.subset, "perturbed" * bool(args.perturb)])]
    out = args.out or args.model
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{'.'.join(names)}.scores.txt"
    rows = (
        ScoreRow(trial.utterance, float(score), attack=trial.attack, label=trial.label)
        for trial, score in zip(trials, scores, strict=True)
    )
    write_scores(path, rows, CORPORA[corpus].score_format)
    return path


def _run(corpus: str, argv: list[str]) -> None:
    parser = _parser(corpus)
    args = parser.parse_args(argv)
    if args.part is None:
        raise ParameterError(f"Name the part: --part {' or --part '.join(CORPORA[corpus].parts)}.")
    part = part_of(corpus, args.part)
    if part.subsets and args.subset is None:
        raise ParameterError("Name the subset: --subset eval, progress, hidden or all.")
    path = _score(args, corpus, part)
    options = {
        "format": part.format,
        "scores_format": CORPORA[corpus].score_format,
        "subset": args.subset,
        "by": [*CORPORA[corpus].by, *(args.by or [])],
        "asv": args.asv or _asv(part, args.data_folder),
    }
    protocol = find(args.data_folder, part.protocol, "protocol")
    table = io.StringIO()
    with contextlib.redirect_stdout(table):
        evaluate(path, protocol, as_json=True, **options)
    path.with_suffix(".json").write_text(table.getvalue(), "utf-8")
    evaluate(path, protocol, plot=args.plot, **options)
    if part.asv and options["asv"] is None:
        print("No ASV scores in the corpus: min t-DCF is left out (--asv names a file).")
    print(f"wrote {path}")


def main(corpus: str, argv: list[str]) -> None:
    """Exit code 2 where it cannot be scored or judged."""
    try:
        _run(corpus, argv)
    except VoiceguardError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    except typer.Exit as refused:
        sys.exit(refused.exit_code)
