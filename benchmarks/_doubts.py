"""Windows of clips, and measures of how far their verdicts may be doubted; for ``risk.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from _held_out import CHANNELS, Floats, Samples, family
from voiceguard import Detector
from voiceguard.audio.quality import assess

NEIGHBOURS = 10
FOLDS = 5
QUIET_DB = 60.0
QUALITIES = ("speech_s", "snr_db", "clipped", "music", "bandwidth_hz", "level_dbfs", "silence")
Clip = Callable[[], Samples]


@dataclass(frozen=True, eq=False)
class Windows:
    """The first windows of some clips and what is known of them.

    Parameters
    ----------
    bonafide : np.ndarray [shape=(n,), dtype=bool]
    groups : np.ndarray [shape=(n,)]
        What is resampled as one.
    families : np.ndarray [shape=(n,)]
        Engine family, or origin of the recording.
    llr : np.ndarray [shape=(n,)]
    embedding : np.ndarray [shape=(n, d)]
    quality : np.ndarray [shape=(n, len(QUALITIES))]
        NaN where a measure could not be taken.
    """

    bonafide: np.ndarray
    groups: np.ndarray
    families: np.ndarray
    llr: Floats
    embedding: Floats
    quality: Floats

    def wrong(self, threshold: float) -> np.ndarray:
        """Whether the label at a threshold is wrong, a bool a clip."""
        return (self.llr >= threshold) != self.bonafide


def hear(
    detector: Detector,
    clips: Sequence[Clip],
    rows: Sequence[Mapping[str, str]],
    channel: str,
    *,
    measured: bool = True,
) -> Windows:
    """Score, embed and (if asked) measure the first window of each clip through a channel."""
    size, calibration = detector.manifest.window_samples, detector.manifest.calibration
    scores, vectors, qualities = [], [], []
    for clip in clips:
        x = CHANNELS[channel](clip()[:size])
        score, vector = detector.engine.run(np.resize(x, (1, size)))
        scores.append(float(score[0]))
        vectors.append(vector[0])
        qualities.append(_measures(x) if measured else [np.nan] * len(QUALITIES))
    return Windows(
        np.array([row["label"] == "bonafide" for row in rows]),
        np.array([row["group"] for row in rows]),
        np.array([family(row) if "origin" in row else row["system"] for row in rows]),
        np.array(scores) if calibration is None else calibration.apply(scores),
        np.array(vectors, dtype=np.float64),
        np.array(qualities, dtype=np.float64),
    )


def _measures(x: Samples) -> list[float]:
    quality = assess(x).overall
    values = (getattr(quality, name) for name in QUALITIES)
    return [np.nan if value is None else float(value) for value in values]


def stored(path: Path, make: Callable[[], Windows]) -> Windows:
    """Windows from a file, or made and written to it."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".part.npz")
        np.savez(scratch, **vars(make()))
        scratch.rename(path)
    with np.load(path) as kept:
        return Windows(**{name: kept[name] for name in kept.files})


class Distance:
    """How far an embedding lies from those of training clips.

    Parameters
    ----------
    embedding : np.ndarray [shape=(n, d)]
        Of training clips.
    bonafide : np.ndarray [shape=(n,), dtype=bool]
        Their classes.
    """

    def __init__(self, embedding: Floats, bonafide: np.ndarray) -> None:
        self.means = [embedding[bonafide].mean(axis=0), embedding[~bonafide].mean(axis=0)]
        rest = embedding - np.where(bonafide[:, None], *self.means)
        covariance = rest.T @ rest / len(rest)
        # A ridge of a thousandth keeps directions without variance from deciding.
        covariance += 1e-3 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        self.precision = np.linalg.inv(covariance)
        self.unit = _unit(embedding)

    def mahalanobis(self, embedding: Floats) -> Floats:
        """Distance to the nearer class mean, in standard deviations [shape=(n,)]."""
        off = [embedding - mean for mean in self.means]
        squares = [((each @ self.precision) * each).sum(axis=1) for each in off]
        return np.sqrt(np.minimum(*squares))

    def nearest(self, embedding: Floats) -> Floats:
        """Mean cosine distance to the ten nearest training clips [shape=(n,)]."""
        near = np.sort(_unit(embedding) @ self.unit.T, axis=1)[:, -NEIGHBOURS:]
        return 1.0 - near.mean(axis=1)


def doubts(windows: Windows, distance: Distance, threshold: float) -> dict[str, Floats]:
    """Measures of doubt by name; the higher, the sooner a verdict is withheld."""
    of = dict(zip(QUALITIES, windows.quality.T, strict=True))
    # Where no noise was heard between words there is nothing to doubt.
    snr = np.fmin(of["snr_db"], QUIET_DB)
    return {
        "distance to the threshold": -np.abs(windows.llr - threshold),
        "little speech": -of["speech_s"],
        "low SNR": -snr,
        "clipping": of["clipped"],
        "music": of["music"],
        "embedding, Mahalanobis": distance.mahalanobis(windows.embedding),
        "embedding, ten nearest": distance.nearest(windows.embedding),
    }


def features(windows: Windows, distance: Distance, threshold: float) -> Floats:
    """What the logistic risk model sees [shape=(n, d)]: all doubts, the llr, other measurements."""
    quality = windows.quality.copy()
    known = ~np.isnan(quality)
    quality[~known] = 0.0
    columns = [*doubts(windows, distance, threshold).values(), windows.llr - threshold]
    return np.column_stack([*columns, quality[:, 4:], (~known).sum(axis=1)])


def risk_model() -> Any:
    """Standardised logistic regression, both outcomes weighted alike."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))


def crossed_risk(x: Floats, wrong: np.ndarray, families: np.ndarray) -> Floats:
    """Risk of each clip by a model that saw no clip of its family [shape=(n,)]."""
    from sklearn.model_selection import GroupKFold

    risk = np.empty(len(x))
    for train, test in GroupKFold(FOLDS).split(x, groups=families):
        risk[test] = risk_model().fit(x[train], wrong[train]).decision_function(x[test])
    return risk


def _unit(x: Floats) -> Floats:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
