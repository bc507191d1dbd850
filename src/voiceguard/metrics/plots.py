"""DET curves and score histograms as PNG or SVG; needs the extra ``plots``.

The DET axes follow Martin et al., "The DET curve in assessment of detection task performance",
Eurospeech 1997.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from voiceguard.errors import MetricError, MissingExtraError, ParameterError
from voiceguard.metrics._checks import pair
from voiceguard.metrics.curves import det, eer, normal_quantile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TICKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 0.9, 0.95, 0.99)
_SUFFIXES = (".png", ".svg")
_BONAFIDE, _SPOOF = "#0072b2", "#d55e00"  # apart for colour-blind readers too


def plot_det(systems: Mapping[str, tuple[ArrayLike, ArrayLike]], path: str | Path) -> Path:
    """Draw the detection error trade-off of one or more systems.

    Parameters
    ----------
    systems : mapping of str to (bonafide_scores, spoof_scores)
        By the name for the legend.
    path : str or Path
        Ends in ``.png`` or ``.svg``.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    MissingExtraError
        If matplotlib is absent.
    MetricError
        If there is no system, scores are unusable, or the file cannot be written.
    ParameterError
        If the suffix is neither.
    """
    target = _target(path)
    if not systems:
        raise MetricError("'systems' must hold at least one system. Got none.")
    figure, axes = _canvas(6.0, 6.0)
    extremes = [0.01, 0.5]
    for name, (bonafide, spoof) in systems.items():
        rate = eer(bonafide, spoof).value
        false_alarm, miss = det(bonafide, spoof)
        (line,) = axes.step(false_alarm, miss, where="post", label=f"{name}: EER {rate:.2%}")
        if 0.0 < rate < 1.0:
            at = normal_quantile([rate])
            axes.plot(at, at, "o", color=line.get_color(), markersize=5)
            extremes.append(rate)
    _det_axes(axes, min(extremes) / 4.0, min(0.95, max(extremes) * 1.2))
    axes.legend(loc="lower left", frameon=False)
    return _save(figure, target)


def plot_scores(
    bonafide_scores: ArrayLike,
    spoof_scores: ArrayLike,
    path: str | Path,
    *,
    threshold: float | None = None,
) -> Path:
    """Draw the histogram of both classes' scores, each to an area of one.

    Parameters
    ----------
    bonafide_scores : array_like [shape=(n_bonafide,)]
        Scores of bona fide trials.
    spoof_scores : array_like [shape=(n_spoof,)]
        Scores of spoof trials.
    path : str or Path
        Ends in ``.png`` or ``.svg``.
    threshold : float or None
        Marked where given.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    MissingExtraError
        If matplotlib is absent.
    MetricError
        If scores are unusable or the file cannot be written.
    ParameterError
        If the suffix is neither.
    """
    target = _target(path)
    bonafide, spoof = pair(bonafide_scores, spoof_scores)
    figure, axes = _canvas(7.0, 4.0)
    edges = np.histogram_bin_edges(np.concatenate((bonafide, spoof)), bins=80)
    for scores, name, colour in ((bonafide, "bona fide", _BONAFIDE), (spoof, "spoof", _SPOOF)):
        axes.hist(
            scores,
            bins=edges.tolist(),
            density=True,
            alpha=0.5,
            color=colour,
            label=f"{name} ({scores.size:,})",
        )
    if threshold is not None:
        axes.axvline(threshold, color="black", linestyle="--", label=f"threshold {threshold:.3g}")
    axes.set_xlabel("score (higher = more bona fide)")
    axes.set_ylabel("density")
    axes.legend(frameon=False)
    return _save(figure, target)


def _target(path: str | Path) -> Path:
    target = Path(path)
    if target.suffix.lower() not in _SUFFIXES:
        raise ParameterError(
            f"The 'path' parameter of a plot must end in .png or .svg. Got {os.fspath(path)!r} "
            "instead."
        )
    return target


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """Make a figure that belongs to no global state; sizes in inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("drawing a plot", "plots") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    axes: Any = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _det_axes(axes: Axes, low: float, high: float) -> None:
    """Scale both axes by normal deviates between two rates and label them in per cent."""
    low = max(low, 1e-5)
    ticks = [rate for rate in _TICKS if low <= rate <= high]
    limits = normal_quantile([low, high])
    labels = [f"{100 * rate:g}" for rate in ticks]
    for set_ticks, set_limits in (
        (axes.set_xticks, axes.set_xlim),
        (axes.set_yticks, axes.set_ylim),
    ):
        set_ticks(normal_quantile(ticks), labels)
        set_limits(float(limits[0]), float(limits[1]))
    axes.plot(limits, limits, color="0.7", linewidth=0.8, zorder=0)
    axes.set_aspect("equal")
    axes.grid(True, color="0.9", linewidth=0.6)
    axes.set_xlabel("false alarm: spoof accepted (%)")
    axes.set_ylabel("miss: bona fide rejected (%)")


def _save(figure: Figure, target: Path) -> Path:
    try:
        figure.savefig(target, dpi=150)
    except OSError as error:
        raise MetricError(f"{target} cannot be written: {error.strerror or error}.") from error
    return target
