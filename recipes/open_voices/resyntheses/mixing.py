"""Human and re-synthesis in one clip: shares of time and frequency, and passages of time."""

from __future__ import annotations

import numpy as np

from .spectra import SAMPLE_RATE, Samples, Transform, smooth, turned

MAX_HUMAN_S = 1.45
"""No stretch longer than this stays human between two passages: a crop of 2 s hears one."""


def matched(y: Samples, x: Samples) -> Samples:
    """`y` at the level (root mean square) of `x`."""
    return (y * np.sqrt((np.mean(x**2) + 1e-12) / (np.mean(y**2) + 1e-12))).astype(np.float32)


def blend(x: Samples, y: Samples, rng: np.random.Generator) -> tuple[Samples, str]:
    """Part of the spectrum of `x` replaced by that of `y`, in time with it.

    Bands, a patchwork of 35 to 80 % of time and frequency, a share of every cell, or the magnitude
    of one with the phase of the other.

    Returns
    -------
    tuple of np.ndarray [shape=(n,)] and str
        The blend, and what it is in words.
    """
    transform = Transform(512, 128)
    human, made = transform.forward(x), transform.forward(matched(y, x))
    kind = str(rng.choice(["band", "band", "patches", "share", "phase", "magnitude"]))
    if kind == "phase":
        mixed, words = turned(np.abs(human), np.angle(made)), "its phase, human magnitude"
    elif kind == "magnitude":
        mixed, words = turned(np.abs(made), np.angle(human)), "its magnitude, human phase"
    else:
        share, words = _mask(kind, human.shape, rng)
        mixed = human + share * (made - human)
    return transform.inverse(mixed.astype(np.complex64), len(x)), words


def _mask(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[Samples, str]:
    """Share of the re-synthesis in each cell, and the words for it."""
    if kind == "share":
        part = rng.uniform(0.4, 0.8)
        return np.full(shape, part, dtype=np.float32), f"{part:.2f} of each cell"
    if kind == "patches":
        part = rng.uniform(0.35, 0.8)
        grain = rng.random(shape).astype(np.float32)
        grain = smooth(smooth(grain, int(rng.choice([5, 11, 21])), 0), int(rng.choice([5, 15])), 1)
        chosen = (grain < np.quantile(grain, part)).astype(np.float32)
        return smooth(chosen, 3, 1), f"{part:.2f} of the cells"
    # A band that a telephone does not carry would leave a human voice under the name of a machine.
    low = rng.choice([0.0, rng.uniform(300.0, 2000.0)])
    high = rng.choice([low + rng.uniform(1500.0, 4500.0), 8000.0])
    frequency = np.linspace(0.0, 8000.0, shape[1])
    inside = np.minimum(frequency - low, high - frequency)
    ramp = np.clip(inside / 200.0 + 0.5, 0.0, 1.0).astype(np.float32)
    return np.broadcast_to(ramp, shape), f"{low:.0f}-{high:.0f} Hz"


def replace_passages(x: Samples, y: Samples, rng: np.random.Generator) -> tuple[Samples, str]:
    """Passages of 0.5 to 2 s of `x` replaced by `y`, level matched, cross-faded over 5 to 30 ms.

    Returns
    -------
    tuple of np.ndarray [shape=(n,)] and str
        The clip, and its passages in seconds.
    """
    share = np.zeros(len(x), dtype=np.float32)
    fade = int(rng.uniform(0.005, 0.03) * SAMPLE_RATE)
    source = np.array(y, dtype=np.float32)
    spans = passages(len(x), rng)
    for start, stop in spans:
        source[start:stop] = matched(y[start:stop], x[start:stop])
        inside = np.minimum(np.arange(start, stop) - start, stop - 1 - np.arange(start, stop))
        share[start:stop] = np.clip(inside / fade, 0.0, 1.0)
    words = " ".join(f"{a / SAMPLE_RATE:.2f}-{b / SAMPLE_RATE:.2f}" for a, b in spans)
    return (x + share * (source - x)).astype(np.float32), f"at {words} s"


def passages(length: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Starts and stops in samples of passages to replace in a clip of `length` samples."""
    spans, least = [], SAMPLE_RATE // 4
    at = int(rng.uniform(0.0, max(0.0, min(1.2, length / SAMPLE_RATE - 0.6))) * SAMPLE_RATE)
    while at + least <= length:
        stop = min(length, at + int(rng.uniform(0.5, 2.0) * SAMPLE_RATE))
        spans.append((at, stop))
        at = stop + int(rng.uniform(0.3, 1.2) * SAMPLE_RATE)
    return spans
