"""Plots of ``quality.py``: DET, score histograms, reliability, scores system by system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from voiceguard import metrics

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
TITLES = {"clean": "as recorded", "g711": "through G.711"}
HUMAN, NAMED, UNSEEN = "#0072b2", "#cc79a7", "#d55e00"
BINS = 10


class Model(Protocol):
    """What the plots need to know of a bundled model."""

    name: str

    @property
    def calibrated(self) -> bool:
        """Whether its scores are llr."""

    @property
    def threshold(self) -> float | None:
        """Where it draws the line."""


class Clips(Protocol):
    """What the plots need to know of the clips."""

    rows: list[dict[str, str]]
    bonafide: Flags


def draw_all(
    folder: Path,
    trials: Clips,
    found: Mapping[tuple[str, str], Floats],
    models: Sequence[Model],
    unseen: Flags,
) -> None:
    """Every plot: of all systems by channel, and of each bundled model.

    Parameters
    ----------
    folder : Path
    trials : Trials
    found : mapping of (str, str) to np.ndarray [shape=(n,)]
        Scores by system and channel.
    models : sequence of System
        The bundled models.
    unseen : np.ndarray [shape=(n,), dtype=bool]
        Spoof clips of systems that the corpus lacks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    human = trials.bonafide
    for channel, title in TITLES.items():
        curves = {
            name: (values[human], values[~human])
            for (name, each), values in found.items()
            if each == channel
        }
        metrics.plot_det(curves, folder / f"det_{channel}.png")
        for model in models:
            values = found[model.name, channel]
            path = folder / f"scores_{model.name}_{channel}.png"
            metrics.plot_scores(values[human], values[~human], path, threshold=model.threshold)
            names = [row["system"] for row in trials.rows]
            path = folder / f"systems_{model.name}_{channel}.png"
            strips(path, f"{model.name}, {title}", names, values, human, unseen, model.threshold)
    for model in models:
        if model.calibrated:
            by_channel = {title: found[model.name, c] for c, title in TITLES.items()}
            reliability(folder / f"reliability_{model.name}.png", model.name, by_channel, human)


def reliability(path: Path, name: str, values: Mapping[str, Floats], human: Flags) -> None:
    """Share of spoof observed against the one stated, classes alike; dot size: share of clips."""
    figure, axes = _canvas(5.0, 5.0)
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, label="as stated")
    for (title, llr), colour in zip(values.items(), (HUMAN, UNSEEN), strict=False):
        found = metrics.ece(llr[human], llr[~human], n_bins=BINS)
        stated = [each.p_spoof for each in found.bins]
        seen = [each.spoof_share for each in found.bins]
        label = f"{title}: mean distance {found.value:.3f}"
        axes.plot(stated, seen, "-", linewidth=1, color=colour)
        sizes = [400 * each.weight for each in found.bins]
        axes.scatter(stated, seen, s=sizes, color=colour, alpha=0.7, label=label)
    axes.set(
        xlabel="stated probability of spoof, prior 0.5",
        ylabel="share of spoof observed",
        title=name,
        xlim=(0, 1),
        ylim=(0, 1),
    )
    legend = axes.legend(loc="upper left", frameon=False)
    for handle in legend.legend_handles[1:]:
        handle.set_sizes([40])
    figure.savefig(path, dpi=150)


def strips(
    path: Path,
    title: str,
    names: Sequence[str],
    values: Floats,
    human: Flags,
    unseen: Flags,
    threshold: float | None,
) -> None:
    """A dot a clip, a line a system, ordered by median; human clips below them."""
    kinds: dict[str, Flags] = {name: np.array(names) == name for name in {*names}}
    spoof = [name for name in kinds if not (kinds[name] & human).any()]
    order = sorted(spoof, key=lambda name: float(np.median(values[kinds[name]])), reverse=True)
    lines = [("people", human, HUMAN)]
    for name in reversed(order):
        lines.append((name, kinds[name], UNSEEN if (kinds[name] & unseen).any() else NAMED))
    figure, axes = _canvas(8.0, 1.4 + 0.17 * len(lines))
    rng = np.random.default_rng(0)
    for at, (_, chosen, colour) in enumerate(lines):
        jitter = at + rng.uniform(-0.25, 0.25, int(chosen.sum()))
        axes.scatter(values[chosen], jitter, s=7, color=colour, alpha=0.6, linewidths=0)
        middle = float(np.median(values[chosen]))
        axes.plot([middle, middle], [at - 0.4, at + 0.4], color="black", linewidth=1.5)
    labels = [f"{name} ({int(chosen.sum())})" for name, chosen, _ in lines]
    axes.set_yticks(range(len(lines)), labels, fontsize=6)
    if threshold is not None:
        axes.axvline(threshold, color="black", linestyle="--", linewidth=0.8)
    for label, colour in (
        ("people", HUMAN),
        ("system that the corpus lacks", UNSEEN),
        ("system that it names", NAMED),
    ):
        axes.scatter([], [], s=20, color=colour, label=label)
    axes.legend(loc="upper left", frameon=False, fontsize=7)
    axes.set(
        xlabel="llr (higher = more bona fide); dashed: balanced; bar: median",
        title=title,
        ylim=(-0.8, len(lines) - 0.2),
    )
    figure.savefig(path, dpi=150)


def _canvas(width: float, height: float) -> tuple[Any, Any]:
    """A figure that belongs to no global state; sizes in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
