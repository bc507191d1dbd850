"""What must not tell the classes apart: a tree on trivial cues, the baseline of every report.

Level, peak, noise floor, dynamic range, bandwidth, silence at both ends, length, digital zeros,
clipping, offset and tilt; no cue looks at the voice itself.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from voiceguard.training.corpus import Corpus

SAMPLE_RATE = 16_000
_FRAME = 320
CUES = (
    "level", "peak", "floor", "range", "rolloff", "high_band", "lead", "tail", "length", "zeros",
    "clipped", "offset", "tilt",
)  # fmt: skip


def cues(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """The cues of one clip.

    Parameters
    ----------
    x : np.ndarray [shape=(n,)]
        16 kHz.

    Returns
    -------
    np.ndarray [shape=(13,)]
        In the order of :data:`CUES`.
    """
    x = np.asarray(x, dtype=np.float64)
    frames = np.resize(x, max(len(x), _FRAME))
    frames = frames[: len(frames) // _FRAME * _FRAME].reshape(-1, _FRAME)
    energy = 10 * np.log10(np.mean(frames**2, axis=1) + 1e-12)
    loud = np.flatnonzero(energy > energy.max() - 35)
    spectrum = np.mean(np.abs(np.fft.rfft(frames * np.hanning(_FRAME), axis=1)) ** 2, axis=0)
    spectrum += 1e-12
    total = np.cumsum(spectrum) / spectrum.sum()
    peak = np.max(np.abs(x)) + 1e-12
    return np.array(
        [
            10 * np.log10(np.mean(x**2) + 1e-12),
            20 * np.log10(peak),
            np.percentile(energy, 5),
            np.percentile(energy, 95) - np.percentile(energy, 5),
            np.searchsorted(total, 0.99),
            10 * np.log10(spectrum[90:].mean() / spectrum.mean()),
            loud[0],
            len(energy) - loud[-1],
            len(x),
            np.mean(x == 0),
            np.mean(np.abs(x) > 0.98 * peak),
            np.mean(x),
            10 * np.log10(spectrum[:20].mean() / spectrum[20:80].mean()),
        ]
    )


def fit_cue_model(corpus: Corpus, rows: npt.NDArray[np.int64]):  # type: ignore[no-untyped-def]
    """A gradient-boosted tree on the cues; its ``decision_function`` is the score."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    x = np.stack([cues(corpus.clip(i)) for i in rows])
    y = np.array([corpus.rows[i]["label"] == "bonafide" for i in rows])
    tree = HistGradientBoostingClassifier(max_iter=150, class_weight="balanced", random_state=0)
    return tree.fit(x, y)
