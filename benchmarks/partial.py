r"""Human calls with a synthetic passage in them: what is found, and where.

    python benchmarks/partial.py --out work/partial --markdown --plot docs/partial.png

Calls of 20 to 60 s of held-out people, 1, 2, 4 or 8 s of a held-out synthetic voice spliced in
(``recipes/open_voices/splice.py``), clean and by telephone. Thresholds are set on the controls,
which have the same joins and no fake: so many false alarms among them at most. ``--clips`` calls
for each length, three times as many controls. Each call is scored with the default gate by
``Detector.score``; one without a verdict counts as human. Scores are stored call by call, so that a
run that was stopped goes on, and a second run only counts.

Localisation: every half second gets the mean (or the highest) llr of the windows that cover it, and
is synthetic where half of it or more lies in a passage; the segment EER is that of these slots.
``--window`` and ``--hop`` (seconds) let the same graph hear shorter or denser windows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from _held_out import (
    CHANNEL_TITLES,
    Floats,
    Held,
    parser,
    percent,
    splice,
    stored_lines,
    table,
    with_windows,
    write_json,
)
from voiceguard import Detector, metrics
from voiceguard.results import Result

RATE = 16_000
SLOT_S = 0.5
FALSE_ALARMS = (0.01, 0.05)
CONTROLS_PER_CALL = 3
RESAMPLES = 500


def facts(call: splice.Call, result: Result) -> dict[str, Any]:
    """What the tables need of a call, plain; the score stands in where there is no llr."""

    def value(x: Any) -> float | None:
        return x.score if x.llr is None else x.llr

    return {
        "name": call.name,
        "kind": call.kind,
        "passage_s": call.passage_s,
        "fakes": call.fakes,
        "host": call.host,
        "donor": call.donor,
        "duration_s": result.duration_s,
        "value": value(result),
        "windows": [[each.start_s, each.end_s, value(each)] for each in result.segments],
    }


def plan(clips: int) -> Iterator[tuple[str, int, float]]:
    """Kind, index and passage of every call."""
    for index in range(CONTROLS_PER_CALL * clips):
        yield "control", index, splice.PASSAGES_S[index // 2 % len(splice.PASSAGES_S)]
    for index in range(clips):
        for passage_s in splice.PASSAGES_S:
            yield "spliced", index, passage_s
        yield "reversed", index, 0.0
        yield "message", index, 0.0


def score(
    detector: Detector, maker: splice.CallMaker, clips: int, channel: str, path: Path
) -> list[dict[str, Any]]:
    """Facts of all calls; each is written at once and never computed twice."""
    known = stored_lines(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    found = []
    with path.open("a") as file:
        for kind, index, passage_s in plan(clips):
            name = f"{kind} {index} {passage_s:g}"
            if name not in known:
                call = splice.through(splice.MAKERS[kind](maker, index, passage_s), channel)
                result = detector.score((call.samples, RATE))
                known[name] = {**facts(call, result), "name": name}
                file.write(json.dumps(known[name]) + "\n")
                file.flush()
            found.append(known[name])
    return found


def threshold_at(controls: Floats, rate: float) -> float:
    """The highest threshold that flags at most a share of the controls; flagged is below it."""
    return float(np.sort(controls)[int(np.floor(rate * len(controls) + 1e-9))])


@dataclass(frozen=True)
class Detection:
    """Share of fake calls found at a rate of false alarms, as a metric that can be resampled."""

    value: float

    def __float__(self) -> float:
        return self.value


def detection(controls: Floats, fakes: Floats, *, rate: float) -> Detection:
    """Detection rate where at most `rate` of the controls are flagged."""
    return Detection(float(np.mean(np.asarray(fakes) < threshold_at(np.asarray(controls), rate))))


def judged(call: dict[str, Any]) -> Floats:
    """Values of the windows that were judged."""
    return np.array([value for _, _, value in call["windows"] if value is not None])


def lowest_pair(values: Floats) -> float:
    """Mean of the most synthetic pair of neighbours; half-overlapping windows share a passage."""
    return float(np.min((values[1:] + values[:-1]) / 2)) if len(values) > 1 else float(values[0])


def contrast(values: Floats) -> float:
    """The most synthetic pair against the call's own median: a call all alike gets 0.

    What a speaker, a room or a line does to every window drops out; so does a call that is
    synthetic throughout.
    """
    return lowest_pair(values) - float(np.median(values))


SHIPPED = "Result.llr"
CALL_SCORES: dict[str, Callable[[dict[str, Any]], float]] = {
    SHIPPED: lambda call: call["value"],
    "most synthetic window": lambda call: float(judged(call).min()),
    "most synthetic pair": lambda call: lowest_pair(judged(call)),
    "mean of windows": lambda call: float(judged(call).mean()),
    "pair against the median": lambda call: contrast(judged(call)),
}


def call_values(calls: Sequence[dict[str, Any]], name: str) -> Floats:
    """Score of each call; one without a verdict is as human as can be."""
    values = [CALL_SCORES[name](call) if call["value"] is not None else np.nan for call in calls]
    found = np.array(values, dtype=np.float64)
    return np.where(np.isnan(found), np.nanmax(found) + 1.0, found)


def of_kind(
    calls: Sequence[dict[str, Any]], kind: str, passage_s: float | None = None
) -> list[Any]:
    return [
        call
        for call in calls
        if call["kind"] == kind and (passage_s is None or call["passage_s"] == passage_s)
    ]


def detections(calls: Sequence[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Detection rates with intervals by part: each passage length, reversed calls, messages."""
    parts = {f"{length:g} s": of_kind(calls, "spliced", length) for length in splice.PASSAGES_S}
    parts |= {
        "greeting, then fake": of_kind(calls, "reversed"),
        "fake alone": of_kind(calls, "message"),
    }
    controls = of_kind(calls, "control")
    kept = [*controls, *(call for part in parts.values() for call in part)]
    values = dict(zip(map(id, kept), call_values(kept, name), strict=True))
    humans = np.array([values[id(call)] for call in controls])
    rows = []
    for part, chosen in parts.items():
        fakes = np.array([values[id(call)] for call in chosen])
        row: dict[str, Any] = {"part": part, "n": len(chosen)}
        row["eer"] = float(metrics.eer(humans, fakes))
        hosts = [[call["host"] for call in part] for part in (controls, chosen)]
        for rate in FALSE_ALARMS:
            row[f"at {100 * rate:g} %"] = found_at(rate, humans, fakes, hosts, name == SHIPPED)
        rows.append(row)
    return rows


def found_at(
    rate: float, humans: Floats, fakes: Floats, hosts: list[list[str]], interval: bool
) -> list[float]:
    """Detection rate, and the ends of its interval over the people whose calls they are."""
    metric = partial(detection, rate=rate)
    if not interval:
        return [float(metric(humans, fakes))]
    found = metrics.bootstrap(
        metric,
        humans,
        fakes,
        bonafide_groups=hosts[0],
        spoof_groups=hosts[1],
        n_resamples=RESAMPLES,
    )
    return [found.value, found.low, found.high]


def slots(
    call: dict[str, Any], combine: Callable[[Floats], Any] = np.mean
) -> tuple[Floats, np.ndarray]:
    """Value and truth of every half second that a judged window covers.

    Parameters
    ----------
    call : dict
        From :func:`facts`.
    combine : callable
        Values of the covering windows to one.

    Returns
    -------
    values : np.ndarray [shape=(slots,)]
    fake : np.ndarray [shape=(slots,), dtype=bool]
        Whether half of the slot or more is synthetic.
    """
    starts = np.arange(int(call["duration_s"] / SLOT_S)) * SLOT_S
    values, fake = [], []
    for start in starts:
        middle = start + SLOT_S / 2
        over = [v for a, b, v in call["windows"] if v is not None and a <= middle < b]
        if over:
            values.append(float(combine(np.array(over))))
            inside = sum(max(0.0, min(b, start + SLOT_S) - max(a, start)) for a, b in call["fakes"])
            fake.append(inside >= SLOT_S / 2)
    return np.array(values), np.array(fake, dtype=bool)


def localisation(calls: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Segment EER of some calls, and how often the most synthetic window touches a passage."""
    found = {}
    for name, combine in (("mean", np.mean), ("highest", np.max)):
        pairs = [slots(call, combine) for call in calls]
        values = np.concatenate([value for value, _ in pairs])
        fake = np.concatenate([truth for _, truth in pairs])
        found[f"segment EER, {name}"] = float(metrics.eer(values[~fake], values[fake]))
    touches = [touching(call) for call in calls if len(judged(call))]
    found["pointed at"] = float(np.mean([hit for hit, _ in touches]))
    found["by chance"] = float(np.mean([share for _, share in touches]))
    return found


def touching(call: dict[str, Any]) -> tuple[bool, float]:
    """Whether the most synthetic window meets a passage, and the share of windows that do."""
    windows = [w for w in call["windows"] if w[2] is not None]
    meets = [any(a < stop and b > start for start, stop in call["fakes"]) for a, b, _ in windows]
    return meets[int(np.argmin([w[2] for w in windows]))], float(np.mean(meets))


def figures(calls: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Everything that the tables show, of one channel."""
    controls = of_kind(calls, "control")
    return {
        "controls": len(controls),
        "hosts": len({call["host"] for call in controls}),
        "withheld": float(np.mean([call["value"] is None for call in calls])),
        "detection": {name: detections(calls, name) for name in CALL_SCORES},
        "localisation": {
            f"{length:g} s": localisation(of_kind(calls, "spliced", length))
            for length in splice.PASSAGES_S
        },
    }


def detection_table(found: dict[str, dict[str, Any]], *, markdown: bool) -> str:
    """What `Result.llr` finds, by channel and part."""
    head = ["channel", "fake", "calls", "EER %"]
    rows = [
        [CHANNEL_TITLES[channel], row["part"], str(row["n"]), percent(row["eer"]), *rates(row)]
        for channel, of in found.items()
        for row in of["detection"][SHIPPED]
    ]
    of = next(iter(found.values()))
    title = (
        f"Calls found by {SHIPPED}, % (95 %), at so many false alarms among {of['controls']} "
        f"controls of {of['hosts']} people"
    )
    head += [f"at {100 * rate:g} %" for rate in FALSE_ALARMS]
    return table(title, head, rows, markdown=markdown)


def rates(row: dict[str, Any]) -> list[str]:
    """Detection rates with their intervals."""
    cells = (row[f"at {100 * rate:g} %"] for rate in FALSE_ALARMS)
    return [percent(value, (low, high)) for value, low, high in cells]


def score_table(found: dict[str, dict[str, Any]], *, markdown: bool) -> str:
    """Ways to make one score of a call, side by side at the milder rate of false alarms."""
    name = f"at {100 * FALSE_ALARMS[-1]:g} %"
    rows = [
        [CHANNEL_TITLES[channel], score, *(percent(row[name][0]) for row in parts)]
        for channel, of in found.items()
        for score, parts in of["detection"].items()
    ]
    parts = [row["part"] for row in next(iter(found.values()))["detection"][SHIPPED]]
    title = f"Calls found {name} false alarms, %, by the score of the call"
    return table(title, ["channel", "score", *parts], rows, markdown=markdown)


def localisation_table(found: dict[str, dict[str, Any]], *, markdown: bool) -> str:
    names = ["segment EER, mean", "segment EER, highest", "pointed at", "by chance"]
    rows = [
        [CHANNEL_TITLES[channel], length, *(percent(row[name]) for name in names)]
        for channel, of in found.items()
        for length, row in of["localisation"].items()
    ]
    title = f"Where in the call: segment EER at {SLOT_S} s, and the most synthetic window, %"
    return table(title, ["channel", "fake", *names], rows, markdown=markdown)


def plot(found: dict[str, dict[str, Any]], example: dict[str, Any], path: Path) -> None:
    """Detection by length of passage, and one call window by window."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (channel, of), colour in zip(found.items(), ("#0072b2", "#d55e00"), strict=False):
        rows = of["detection"][SHIPPED][: len(splice.PASSAGES_S)]
        for rate, style in zip(FALSE_ALARMS, ("o-", "s--"), strict=True):
            rates = [100 * row[f"at {100 * rate:g} %"][0] for row in rows]
            title = f"{CHANNEL_TITLES[channel]}, {100 * rate:g} % false alarms"
            left.plot(splice.PASSAGES_S, rates, style, color=colour, label=title)
    left.set_xscale("log", base=2)
    left.set_xticks(splice.PASSAGES_S, [f"{length:g}" for length in splice.PASSAGES_S])
    left.set(xlabel="synthetic passage (s)", ylabel="calls found (%)", ylim=(0, 100))
    for start, stop, value in example["windows"]:
        if value is not None:
            right.plot([start, stop], [value, value], color="0.25", linewidth=1.5)
    for start, stop in example["fakes"]:
        right.axvspan(start, stop, color="#d55e00", alpha=0.25, linewidth=0, label="synthetic")
    right.axhline(0, color="0.7", linewidth=0.8)
    right.set(xlabel="time (s)", ylabel="llr of each window", xlim=(0, example["duration_s"]))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=130)


def example_of(calls: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The call with 4 s of fake whose lowest window is the median one: neither best nor worst."""
    chosen = [call for call in of_kind(calls, "spliced", 4.0) if len(judged(call))]
    return sorted(chosen, key=lambda call: float(judged(call).min()))[len(chosen) // 2]


def arguments() -> argparse.Namespace:
    """The command line."""
    made = parser(__doc__, clips=50, clips_help="calls for each length of passage")
    made.add_argument("--window", type=float, help="seconds that a window hears")
    made.add_argument("--hop", type=float, help="seconds between windows")
    return made.parse_args()


def main() -> None:
    args = arguments()
    held = Held.open(args)
    detector = with_windows(held.detector, args.window, args.hop)
    maker = splice.CallMaker(held.corpus, held.rows.held_out, seed=args.seed)
    key = held.key(seed=args.seed, window=args.window, hop=args.hop)
    found, example = {}, None
    for channel in args.channels:
        path = args.out / f"partial_{channel}_{key}.jsonl"
        calls = score(detector, maker, args.clips, channel, path)
        found[channel] = figures(calls)
        example = example or example_of(calls)
    for show in (detection_table, score_table, localisation_table):
        print(show(found, markdown=args.markdown))
    plot(found, example, args.plot or args.out / "partial.png")
    write_json(args.json, found)


if __name__ == "__main__":
    main()
