r"""Whom a detector takes for a machine: false-alarm rates by group of people and recordings.

    python benchmarks/fairness.py --data ../shared/wild-dev --system vg-base --markdown
    python benchmarks/fairness.py --data ../shared/corpus --held-out --system vg-base \
        --scores work/held_out_scores.csv --json work/fairness.json

Human clips by language, sex, age, bandwidth, source, origin and kind of recording; synthetic ones
by system, whose rate is the share that passes. Two thresholds: the bundle's operating point
``balanced``, and that of the EER on these very clips. Sex and age are known only where the
manifest's names say so, or where a corpus publishes them of its speakers (VCTK, CMU ARCTIC,
LJ Speech, JSUT, CSMSC, the Voice Conversion Challenges).

Intervals: 95 %, Wilson's for a share. They take clips for independent; the clips of one speaker are
not, so both numbers are printed: many clips of few speakers say less than their interval. Groups of
fewer clips than ``--smallest`` are counted together. A group is among the worst where its whole
interval lies above the rate of all human clips.

A system hears the first window of each clip, without the quality gate. With ``--scores`` the values
are read from that CSV (columns id, value); where it is not there yet, it is written.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from _held_out import Floats, percent, table, write_json
from _people import POOLED, UNKNOWN, Row, grouped, pooled
from _trials import System, bundle_system, chosen_rows, data_options, name_of, read_trials
from voiceguard import Detector, metrics
from voiceguard.errors import ParameterError

PART = 64


def wilson(hits: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a share.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.

    Parameters
    ----------
    hits, n : int
        0 <= hits <= n, n >= 1.
    confidence : float
        Nominal coverage, inside (0, 1).

    Returns
    -------
    low, high : float

    Raises
    ------
    ParameterError
        If the counts or the confidence are out of their domain.
    """
    if not 0 <= hits <= n or n < 1 or not 0.0 < confidence < 1.0:
        raise ParameterError(
            "The parameters of wilson must be 0 <= hits <= n, n >= 1 and a confidence inside "
            f"(0, 1). Got hits={hits!r}, n={n!r}, confidence={confidence!r} instead."
        )
    z = NormalDist().inv_cdf(0.5 + confidence / 2.0)
    share, scale = hits / n, 1.0 + z * z / n
    middle = (share + z * z / (2 * n)) / scale
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / scale
    # A share of none or of all is an end of its own interval; rounding would say almost.
    low = 0.0 if hits == 0 else float(middle - half)
    return low, 1.0 if hits == n else float(middle + half)


@dataclass(frozen=True)
class Share:
    """A share of some clips with its Wilson interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, hits: npt.NDArray[np.bool_]) -> Share:
        """The share that is True."""
        return cls(float(hits.mean()), *wilson(int(hits.sum()), len(hits)))


@dataclass(frozen=True)
class Group:
    """Error rates of one group of clips.

    Parameters
    ----------
    by, name : str
        What the clips are grouped by, and which group it is.
    clips, speakers : int
    balanced : Share or None
        At the operating point ``balanced``; None for a model without it.
    own_line : Share
        At the threshold of the EER on all clips.
    """

    by: str
    name: str
    clips: int
    speakers: int
    balanced: Share | None
    own_line: Share

    @property
    def rate(self) -> Share:
        """The share that groups are ranked by."""
        return self.own_line if self.balanced is None else self.balanced


@dataclass(frozen=True)
class Clips:
    """Clips of one class and what a system said of them.

    Parameters
    ----------
    rows : sequence of dict
    values : np.ndarray [shape=(n,)]
    human : bool
        An error is a human clip called spoof, or a synthetic one that is not.
    """

    rows: Sequence[Row]
    values: Floats
    human: bool

    def groups(
        self, by: str, names: Sequence[str], *, balanced: float | None, own_line: float
    ) -> list[Group]:
        """Error rates of each group, worst first.

        Parameters
        ----------
        by : str
        names : sequence of str
            Group of each clip.
        balanced : float or None
            Threshold; spoof lies below it.
        own_line : float
            Threshold; spoof lies at or below it.

        Returns
        -------
        list of Group
        """
        at_balanced = None if balanced is None else (self.values < balanced) == self.human
        at_own_line = (self.values <= own_line) == self.human
        found = []
        for name in set(names):
            chosen = np.array([each == name for each in names])
            found.append(
                Group(
                    by,
                    name,
                    int(chosen.sum()),
                    len(
                        {
                            row.get("speaker")
                            for row, mine in zip(self.rows, chosen, strict=True)
                            if mine
                        }
                    ),
                    None if at_balanced is None else Share.of(at_balanced[chosen]),
                    Share.of(at_own_line[chosen]),
                )
            )
        return sorted(found, key=lambda group: (-group.rate.value, group.name))


def study(
    rows: Sequence[Row], values: Floats, *, balanced: float | None, smallest: int
) -> dict[str, list[Group]]:
    """Error rates of all groups.

    Parameters
    ----------
    rows : sequence of dict
        Of both classes.
    values : np.ndarray [shape=(n,)]
        Higher = more bona fide.
    balanced : float or None
        Threshold of the operating point.
    smallest : int
        Groups of fewer clips are counted together.

    Returns
    -------
    dict of str to list of Group
        ``human`` and ``synthetic``, all of them first, and ``worst`` of the human ones.
    """
    human = np.array([row["label"] == "bonafide" for row in rows])
    lines: dict[str, Any] = {
        "balanced": balanced,
        "own_line": float(metrics.eer(values[human], values[~human]).threshold),
    }
    people, machines = (
        Clips([row for row, k in zip(rows, keep, strict=True) if k], values[keep], is_human)
        for keep, is_human in ((human, True), (~human, False))
    )
    of_people = people.groups("all", ["all people"] * len(people.rows), **lines)
    everyone = of_people[0]
    for by, names in grouped(people.rows, smallest=smallest).items():
        of_people += people.groups(by, names, **lines)
    systems = pooled([row["system"] for row in machines.rows], smallest=smallest)
    return {
        "human": of_people,
        "synthetic": [
            *machines.groups("all", ["all systems"] * len(systems), **lines),
            *machines.groups("system", systems, **lines),
        ],
        "worst": [
            group
            for group in sorted(of_people, key=lambda group: -group.rate.low)
            if group.rate.low > everyone.rate.value and group.name not in (UNKNOWN, POOLED)
        ],
    }


def scored(rows: Sequence[Row], system: System, data: Path, path: Path | None) -> Floats:
    """Value of each clip: from the file at `path` where it is there; else computed, and written.

    Raises
    ------
    ParameterError
        If the file lacks a clip.
    """
    if path is not None and path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            known = {row["id"]: float(row["value"]) for row in csv.DictReader(file)}
        missing = [name_of(row) for row in rows if name_of(row) not in known]
        if missing:
            raise ParameterError(
                f"{path}: expected a value for each of {len(rows)} clips. {len(missing)} lack one "
                f"({missing[0]} first); remove the file to have it written anew."
            )
        return np.array([known[name_of(row)] for row in rows])
    # In parts, so that a large corpus need not fit into memory.
    values = np.concatenate(
        [
            system.score(read_trials(list(rows[first : first + PART]), data).clips)
            for first in range(0, len(rows), PART)
        ]
    )
    if path is not None:
        lines = [f"{name_of(row)},{float(v)!r}\n" for row, v in zip(rows, values, strict=True)]
        path.write_text("id,value\n" + "".join(lines), "utf-8")
    return values


def group_table(title: str, groups: Sequence[Group], *, markdown: bool) -> str:
    """A table of groups; rates in per cent with their intervals."""
    head = ["by", "group", "clips", "speakers", "at balanced %", "at the EER's line %"]
    lines = [
        [
            group.by,
            group.name,
            str(group.clips),
            str(group.speakers),
            *(
                "-" if share is None else percent(share.value, (share.low, share.high))
                for share in (group.balanced, group.own_line)
            ),
        ]
        for group in groups
    ]
    return table(title, head, lines, markdown=markdown)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data_options(parser)
    parser.add_argument("--system", default="vg-base", help="what Detector.load takes")
    parser.add_argument("--smallest", type=int, default=8, help="clips of a group of its own (8)")
    parser.add_argument("--scores", type=Path, help="CSV to read the values from, or to write")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--markdown", action="store_true", help="print tables as Markdown")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    detector = Detector.load(args.system)
    rows = chosen_rows(args, detector.manifest.provenance)
    system = bundle_system(detector)
    values = scored(rows, system, args.data, args.scores)
    found = study(rows, values, balanced=system.balanced, smallest=args.smallest)
    sizes = [group.clips for group in found["human"]]
    titles = {
        "human": f"{system.name}: people called synthetic; smallest group {min(sizes)} clips",
        "synthetic": f"{system.name}: synthetic clips that pass, by system",
        "worst": f"{system.name}: groups whose whole interval lies above the rate of all people",
    }
    for part, title in titles.items():
        print(group_table(title, found[part], markdown=args.markdown))
    write_json(args.json, {part: [asdict(group) for group in found[part]] for part in titles})


if __name__ == "__main__":
    main()
