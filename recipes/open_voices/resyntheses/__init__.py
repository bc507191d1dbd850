"""Re-syntheses of a human clip: the same voice, words, room and noise, and an engine's artefacts.

Each method is a function of samples (float32 at 16 kHz) and a random generator, and gives as many
samples in time with them to a few ms. What a method leaves open (orders, rates, rounds) is drawn
from the generator, so that the artefacts vary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from .harmonics import harmonic_vocoder
from .magnitude import griffin_lim_vocoder, mel_vocoder, phase_damage
from .measures import is_silent, likeness_db
from .mixing import blend, matched, replace_passages
from .pitch import UnsuitableClipError
from .prediction import lpc_vocoder
from .spectra import Samples
from .world import world_vocoder

Method = Callable[[Samples, np.random.Generator], Samples]

METHODS: Mapping[str, Method] = {
    "world": world_vocoder,
    "griffinlim": griffin_lim_vocoder,
    "mel": mel_vocoder,
    "lpc": lpc_vocoder,
    "harmonic": harmonic_vocoder,
    "phase": phase_damage,
}
"""Methods that need nothing but the clip. Codewords (``QuantisedVocoder``) need other clips."""

MIXTURES = {"blend": blend, "partial": replace_passages}
"""What joins a re-synthesis with its human."""

FALLBACK = "griffinlim"
"""Takes any clip that is not silent."""

MOST_LIKE_DB = 12.0
"""What is closer to its human than this is drawn anew: it would be a human clip called spoof."""

_DRAWS = 5


@dataclass(frozen=True)
class Made:
    """A re-synthesis.

    Parameters
    ----------
    samples : np.ndarray [shape=(n,)]
        At the level of the human.
    raw : np.ndarray [shape=(n,)]
        As the method left it.
    method : str
        The method that made it, which is not the one asked for where that could not.
    detail : str
        In words, with the method and place of what was mixed.
    """

    samples: Samples
    raw: Samples
    method: str
    detail: str


def resynthesise(
    x: Samples, name: str, rng: np.random.Generator, methods: Mapping[str, Method] = METHODS
) -> Made:
    """One re-synthesis of `x`.

    Parameters
    ----------
    x : np.ndarray [shape=(n,)]
        A human clip, float32 at 16 kHz.
    name : str
        A key of `methods` or of :data:`MIXTURES`, which draws one of `methods` to mix with.
    rng : np.random.Generator
        Draws everything that is left open.
    methods : mapping of str to callable
        What there is to choose from.

    Raises
    ------
    UnsuitableClipError
        If the clip is silent or cannot be re-synthesised by the fallback either.
    """
    if is_silent(x):
        raise UnsuitableClipError("The clip is silent; there is nothing to re-synthesise.")
    asked = str(rng.choice(sorted(methods))) if name in MIXTURES else name
    used, y = _by_method(x, asked, rng, methods)
    if name in MIXTURES:
        try:
            raw, words = _changed(x, lambda: MIXTURES[name](x, y, rng))
            return Made(matched(raw, x), raw, name, f"{used} {words}")
        except UnsuitableClipError:
            return Made(matched(y, x), y, used, used)
    return Made(matched(y, x), y, used, used)


def _by_method(
    x: Samples, name: str, rng: np.random.Generator, methods: Mapping[str, Method]
) -> tuple[str, Samples]:
    """By the named method, or by the fallback where it cannot."""
    try:
        return name, _changed(x, lambda: (methods[name](x, rng), ""))[0]
    except UnsuitableClipError:
        return FALLBACK, _changed(x, lambda: (methods[FALLBACK](x, rng), ""))[0]


def _changed(x: Samples, draw: Callable[[], tuple[Samples, str]]) -> tuple[Samples, str]:
    """The first of a few draws that is sound, as long as `x` and not `x` once more."""
    for _ in range(_DRAWS):
        y, words = draw()
        sound = len(y) == len(x) and np.all(np.isfinite(y)) and np.sqrt(np.mean(y**2)) > 1e-5
        if sound and likeness_db(x, matched(y, x)) < MOST_LIKE_DB:
            return y, words
    raise UnsuitableClipError(f"{_DRAWS} draws gave silence, or the clip as it was.")
