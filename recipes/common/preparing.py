"""What every recipe's ``prepare.py`` does: hold the corpus against its protocols."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from corpora import CORPORA, Part, find, load_trials

from voiceguard import audio
from voiceguard.errors import VoiceguardError
from voiceguard.protocols import ALL_SUBSETS, PUBLISHED_COUNTS, DataReport, check


def _parser(corpus: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Check trials, files and, at will, decoding.")
    parser.add_argument("--data_folder", type=Path, required=True)
    parser.add_argument("--part", choices=tuple(CORPORA[corpus].parts), action="append")
    parser.add_argument("--decode", action="store_true", help="decode every file")
    parser.add_argument(
        "--no_counts",
        action="store_true",
        help="do not expect the published numbers of trials: for a corpus of one's own",
    )
    return parser


def _check(part: Part, folder: Path, *, counts: bool, decode: bool) -> DataReport:
    subset = ALL_SUBSETS if part.subsets else None
    return check(
        load_trials(part, folder, subset),
        audio=find(folder, part.audio, "audio"),
        suffix=part.suffix,
        expected=PUBLISHED_COUNTS[part.published.format(subset=subset)] if counts else None,
        decode=audio.read if decode else None,
    )


def _print(name: str, report: DataReport) -> None:
    counts = report.counts
    print(f"{name}: {counts.total} trials, {counts.bonafide} bona fide, {counts.spoof} spoof")
    for problem in report.problems():
        print(f"  amiss: {problem}")
    for item in (*report.missing[:5], *(f"{a}: {b}" for a, b in report.undecodable[:5])):
        print(f"    {item}")


def main(corpus: str, argv: list[str]) -> None:
    """Exit code 0 where all is well, 1 where something is amiss, 2 where it cannot be told."""
    args = _parser(corpus).parse_args(argv)
    well = True
    for name in args.part or CORPORA[corpus].parts:
        part = CORPORA[corpus].parts[name]
        try:
            report = _check(part, args.data_folder, counts=not args.no_counts, decode=args.decode)
        except VoiceguardError as error:
            print(f"{name}: {error}", file=sys.stderr)
            sys.exit(2)
        _print(name, report)
        well = well and report.ok
    sys.exit(0 if well else 1)
