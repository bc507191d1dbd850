"""A bundle's embedding: one vector a window, without torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from voiceguard.detect.detector import Detector
from voiceguard.detect.windows import cut, plan
from voiceguard.embedding.models import Samples
from voiceguard.embedding.values import Layer, Values, only_output


class BundleModel:
    """The network of a detector; its frames are the detector's windows.

    Parameters
    ----------
    detector : Detector
        Whose windows and graph are used; its gate is not asked.
    """

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self.name = detector.model.id
        self.sample_rate = detector.manifest.sample_rate
        self.dim = detector.manifest.embedding_dim

    @classmethod
    def load(cls, model: str | os.PathLike[str] | Detector | None) -> BundleModel:
        """Load a bundle as :meth:`voiceguard.Detector.load` does, or take a detector."""
        return cls(model if isinstance(model, Detector) else Detector.load(model))

    @property
    def sha256(self) -> str:
        """Hash of the graph and of how windows are laid."""
        manifest = self.detector.manifest
        parts = (self.detector.model.sha256, manifest.window_samples, manifest.hop_samples)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def resolve(self, layer: Layer) -> None:
        """Refuse a layer: there is one output."""
        only_output(self.name, layer)

    def times(self, n_samples: int) -> NDArray[np.float64]:
        """Centres of the windows, seconds."""
        spans = np.array(self._spans(n_samples), np.float64).reshape(-1, 2)
        centres: NDArray[np.float64] = spans.mean(axis=1) / self.sample_rate
        return centres

    def blocks(self, channel: Samples, layer: Layer) -> Iterator[Values]:
        """Vectors of the windows, a batch at a time."""
        engine, window = self.detector.engine, self.detector.manifest.window_samples
        spans = self._spans(len(channel))
        for batch in cut(channel, spans, window=window, batch=engine.max_batch):
            yield engine.run(batch)[1]

    def _spans(self, n_samples: int) -> tuple[tuple[int, int], ...]:
        manifest = self.detector.manifest
        return plan(n_samples, window=manifest.window_samples, hop=manifest.hop_samples)
