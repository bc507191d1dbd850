r"""Error against seconds of speech, and ways to make one score of many windows.

    python benchmarks/duration.py --out work/duration --markdown --plot docs/duration.png

A voice is one held-out human speaker, or one voice of one held-out synthetic system. Its clips,
levelled and joined by cross-fades in a random order, are cut where the voice activity detector has
counted 1, 2, 4, 8, 16 and 30 seconds of speech, as far as there are so many; ``--clips`` orders a
voice. Each cut goes through the channel as a whole and is scored with the gate open.

Longer cuts come from fewer voices, so that a second column keeps to the voices that have 16 s.
Intervals: 95 %, bootstrap over voices. Scores are stored recording by recording, so that a run that
was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from _held_out import (
    CHANNEL_TITLES,
    CHANNELS,
    Floats,
    Held,
    Samples,
    parser,
    percent,
    splice,
    stored_lines,
    table,
    write_json,
)
from voiceguard import metrics
from voiceguard.audio.gate import GatePolicy
from voiceguard.audio.vad import FRAME, speech_mask, speech_probabilities
from voiceguard.detect.aggregation import aggregate_llr
from voiceguard.errors import MetricError

RATE = 16_000
LENGTHS_S = (1, 2, 4, 8, 16, 30)
MATCHED_S = 16
LONGEST_S = 60
TRIM = 0.2
RESAMPLES = 500


def cuts(x: Samples) -> dict[int, Samples]:
    """Beginnings of a recording that hold so many seconds of speech, by the seconds.

    Parameters
    ----------
    x : np.ndarray [shape=(n,)]
        16 kHz.

    Returns
    -------
    dict of int to np.ndarray
        Lengths that the recording does not reach are absent.
    """
    speech = np.cumsum(speech_mask(speech_probabilities(x))) * FRAME / RATE
    found = {}
    for seconds in LENGTHS_S:
        frame = int(np.searchsorted(speech, seconds))
        if frame < len(speech):
            found[seconds] = x[: (frame + 1) * FRAME]
    return found


def trimmed(values: Floats) -> float:
    """Mean without the highest and the lowest fifth, at least one value kept."""
    drop = int(TRIM * len(values))
    return float(np.sort(values)[drop : len(values) - drop].mean())


def soft_lowest(values: Floats) -> float:
    """Mean weighted by exp(-llr): the more synthetic a window, the more it counts."""
    weights = np.exp(values.min() - values)
    return float(np.dot(weights, values) / weights.sum())


SHIPPED = "shipped (mean likelihood)"
AGGREGATIONS: dict[str, Callable[[Floats, Floats], float]] = {
    SHIPPED: aggregate_llr,
    "mean": lambda values, speech: float(np.average(values, weights=speech + 1e-6)),
    "median": lambda values, _: float(np.median(values)),
    "lowest": lambda values, _: float(values.min()),
    "highest": lambda values, _: float(values.max()),
    "trimmed mean": lambda values, _: trimmed(values),
    "softmax-weighted": lambda values, _: soft_lowest(values),
}
"""From llrs of windows and their seconds of speech to a score."""


def recordings(held: Held, draws: int, seed: int) -> Iterator[tuple[str, dict[str, Any], Samples]]:
    """Name, facts and samples of every joined recording, made when it is asked for."""
    for label in ("bonafide", "spoof"):
        voices = splice.gather(held.corpus, held.rows.held_out, label)
        for number, voice in enumerate(voices):
            for draw in range(draws if len(voice.rows) > 1 else 1):
                rng = np.random.default_rng([seed, len(label), number, draw])
                samples = splice.recording(held.corpus, voice, LONGEST_S * RATE, rng)
                yield f"{label} {number} {draw}", {"label": label, "voice": voice.name}, samples


def hear(held: Held, name: str, channel: str, facts: dict[str, Any], x: Samples) -> dict[str, Any]:
    """The windows of each cut: llr (or score) and seconds of speech."""
    row = {"name": name, **facts, "audio_s": {}, "windows": {}}
    for seconds, cut in cuts(x).items():
        result = held.detector.score((CHANNELS[channel](cut), RATE))
        row["audio_s"][str(seconds)] = len(cut) / RATE
        row["windows"][str(seconds)] = [
            [s.score if s.llr is None else s.llr, s.quality.speech_s] for s in result.segments
        ]
    return row


def score(held: Held, draws: int, seed: int, channel: str, path: Path) -> list[dict[str, Any]]:
    """All recordings through a channel; each is written at once and never computed twice."""
    known = stored_lines(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    found = []
    with path.open("a") as file:
        for name, facts, samples in recordings(held, draws, seed):
            if name not in known:
                known[name] = hear(held, name, channel, facts, samples)
                file.write(json.dumps(known[name]) + "\n")
                file.flush()
            found.append(known[name])
    return found


def trials(
    rows: Sequence[dict[str, Any]], seconds: int, aggregation: str, *, least_s: int = 0
) -> tuple[Floats, np.ndarray, np.ndarray]:
    """Score, class (True for bona fide) and voice of each cut of a length.

    Parameters
    ----------
    rows : sequence of dict
        From :func:`hear`.
    seconds : int
        Length of the cuts.
    aggregation : str
        One of :data:`AGGREGATIONS`.
    least_s : int
        Only recordings that reach this length too.
    """
    combine = AGGREGATIONS[aggregation]
    chosen = [
        row
        for row in rows
        if str(seconds) in row["windows"] and (not least_s or str(least_s) in row["windows"])
    ]
    pairs = [np.array(row["windows"][str(seconds)], dtype=np.float64) for row in chosen]
    return (
        np.array([combine(pair[:, 0], pair[:, 1]) for pair in pairs]),
        np.array([row["label"] == "bonafide" for row in chosen], dtype=bool),
        np.array([row["voice"] for row in chosen]),
    )


def error(values: Floats, human: np.ndarray, voices: np.ndarray) -> list[float]:
    """EER with the ends of its interval; not a number where a class is absent."""
    try:
        found = metrics.bootstrap(
            metrics.eer,
            values[human],
            values[~human],
            bonafide_groups=voices[human],
            spoof_groups=voices[~human],
            n_resamples=RESAMPLES,
        )
    except MetricError:
        return [float("nan")] * 3
    return [found.value, found.low, found.high]


def figures(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Everything that the tables show, of one channel: a dict a length that both classes reach."""
    return [found for seconds in LENGTHS_S if (found := of_length(rows, seconds)) is not None]


def of_length(rows: Sequence[dict[str, Any]], seconds: int) -> dict[str, Any] | None:
    """Figures of one length; None where a class has no such cut."""
    tables = {name: trials(rows, seconds, name) for name in AGGREGATIONS}
    values, human, voices = tables[SHIPPED]
    if human.all() or not human.any():
        return None
    same = trials(rows, seconds, SHIPPED, least_s=MATCHED_S) if seconds <= MATCHED_S else None
    lengths = [row["audio_s"][str(seconds)] for row in rows if str(seconds) in row["audio_s"]]
    return {
        "seconds": seconds,
        "audio_s": float(np.mean(lengths)),
        "voices": [len(set(voices[human])), len(set(voices[~human]))],
        "eer": error(values, human, voices),
        "same voices": None if same is None else error(*same),
        "by aggregation": {
            name: float(metrics.eer(v[h], v[~h])) for name, (v, h, _) in tables.items()
        },
        "cllr": {name: float(metrics.cllr(v[h], v[~h])) for name, (v, h, _) in tables.items()},
    }


def length_table(found: dict[str, list[dict[str, Any]]], *, markdown: bool) -> str:
    head = ["channel", "speech, s", "audio, s", "voices", "EER % (95 %)", "same voices", "Cllr"]
    rows = [
        [
            CHANNEL_TITLES[channel],
            str(row["seconds"]),
            f"{row['audio_s']:.1f}",
            f"{row['voices'][0]} + {row['voices'][1]}",
            percent(row["eer"][0], tuple(row["eer"][1:])),
            "" if row["same voices"] is None else percent(row["same voices"][0]),
            f"{row['cllr'][SHIPPED]:.2f}",
        ]
        for channel, of in found.items()
        for row in of
    ]
    title = "EER against seconds of speech, human + synthetic voices"
    return table(title, head, rows, markdown=markdown)


def aggregation_table(found: dict[str, list[dict[str, Any]]], *, markdown: bool) -> str:
    """EER by aggregation at the lengths that take several windows; the mean of all last."""
    columns = [(channel, row) for channel, of in found.items() for row in of if row["seconds"] >= 8]
    head = ["aggregation", *(f"{CHANNEL_TITLES[c]}, {row['seconds']} s" for c, row in columns)]
    rows = []
    for name in AGGREGATIONS:
        rates = [row["by aggregation"][name] for _, row in columns]
        spread = [row["cllr"][name] for _, row in columns]
        cells = [*map(percent, rates), percent(float(np.mean(rates))), f"{np.mean(spread):.2f}"]
        rows.append([name, *cells])
    title = "EER %, by how the windows of a recording make one score"
    return table(title, [*head, "mean", "mean Cllr"], rows, markdown=markdown)


def plot(found: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """EER by length with intervals, and by aggregation."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.0), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for (channel, of), colour in zip(found.items(), ("#0072b2", "#d55e00"), strict=False):
        x = [row["seconds"] for row in of]
        rates = 100 * np.array([row["eer"] for row in of])
        left.plot(x, rates[:, 0], "o-", color=colour, label=f"{CHANNEL_TITLES[channel]}, all")
        left.fill_between(x, rates[:, 1], rates[:, 2], color=colour, alpha=0.12, linewidth=0)
        same = [row for row in of if row["same voices"] is not None]
        left.plot(
            [row["seconds"] for row in same],
            [100 * row["same voices"][0] for row in same],
            "s--",
            color=colour,
            label=f"{CHANNEL_TITLES[channel]}, voices with {MATCHED_S} s",
        )
    lengths = [row["seconds"] for row in next(iter(found.values()))]
    for name in AGGREGATIONS:
        rates = [[row["by aggregation"][name] for row in of] for of in found.values()]
        right.plot(lengths, 100 * np.mean(rates, axis=0), "o-", markersize=3, label=name)
    right.set(title="by aggregation, mean over channels")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(lengths, [str(n) for n in lengths])
        axes.set(xlabel="seconds of speech", ylim=(0, None))
        axes.spines[["top", "right"]].set_visible(False)
        # Below the axes: within them the curves leave no corner free.
        axes.legend(
            frameon=False, fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.15)
        )
    left.set(ylabel="EER (%)")
    figure.savefig(path, dpi=130)


def main() -> None:
    args: argparse.Namespace = parser(
        __doc__, clips=2, clips_help="joined recordings of each voice"
    ).parse_args()
    held = Held.open(args, GatePolicy.open())
    key = held.key(seed=args.seed)
    found = {}
    for channel in args.channels:
        path = args.out / f"duration_{channel}_{key}.jsonl"
        found[channel] = figures(score(held, args.clips, args.seed, channel, path))
    for show in (length_table, aggregation_table):
        print(show(found, markdown=args.markdown))
    plot(found, args.plot or args.out / "duration.png")
    write_json(args.json, found)


if __name__ == "__main__":
    main()
