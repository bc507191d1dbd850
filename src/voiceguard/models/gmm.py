"""Gaussian mixture systems: LFCC-GMM and CQCC-GMM, the baselines of ASVspoof 2019 and 2021.

Two mixtures of diagonal Gaussians model the frames of bona fide and of spoofed speech; an
utterance's score is the mean over its frames of the difference of their log-likelihoods.
Sahidullah, Kinnunen and Hanilci, "A comparison of features for synthetic speech detection",
Interspeech 2015; Todisco et al., "ASVspoof 2019: future horizons in spoofed and fake audio
detection", Interspeech 2019. The mixtures are fitted by scikit-learn and kept as plain arrays.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from voiceguard.errors import MissingExtraError, ModelError, ParameterError
from voiceguard.features import build_front_end
from voiceguard.features._base import FrontEnd, check_int
from voiceguard.models._config import PlainConfig
from voiceguard.models.mixture import Frames, FrameSample, Mixture, fit_mixture

Samples = NDArray[np.float32]

MAX_FILE_BYTES = 64 * 1024 * 1024
"""Larger files are refused; a mixture pair of the published size takes 1.5 MB."""

_CLASSES = ("bonafide", "spoof")
_PARTS = ("weights", "means", "variances")


@dataclass(frozen=True)
class GMMConfig(PlainConfig):
    """Front end and fitting of a pair of mixtures.

    Parameters
    ----------
    front_end : str
        Name of a front end, see :func:`voiceguard.features.build_front_end`. Published:
        ``lfcc_asvspoof2019``, ``lfcc_gmm2021``, ``cqcc_asvspoof2019``, ``cqcc_asvspoof2021``.
    front_end_options : mapping
        Its keyword arguments.
    components : int
        Gaussians a class.
    iterations : int
        Most steps of expectation-maximisation, started from k-means; the baselines take 10.
    variance_floor : float
        Added to each variance, > 0.
    max_frames : int
        Most frames a class that the fit sees, drawn uniformly from all of them. The fit holds
        max_frames * components numbers in memory several times over, 0.8 GB each by default.
    seed : int
        Of that draw and of the start.
    """

    front_end: str = "lfcc_gmm2021"
    front_end_options: Mapping[str, Any] = field(default_factory=dict)
    components: int = 512
    iterations: int = 10
    variance_floor: float = 1e-6
    max_frames: int = 200_000
    seed: int = 0

    def __post_init__(self) -> None:
        check_int(self, components=self.components, iterations=self.iterations)
        check_int(self, max_frames=self.max_frames)
        check_int(self, minimum=0, seed=self.seed)
        if not self.variance_floor > 0:
            raise ParameterError(
                "The 'variance_floor' parameter of GMMConfig must be a number > 0. "
                f"Got {self.variance_floor!r} instead."
            )


class GMM:
    """A pair of mixtures, to fit, score, save and load.

    Parameters
    ----------
    config : GMMConfig

    Attributes
    ----------
    bonafide_, spoof_ : Mixture
        Set by :meth:`fit` and :meth:`load`.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> loud = [rng.standard_normal(16000).astype(np.float32) for _ in range(2)]
    >>> soft = [0.01 * x for x in loud]
    >>> system = GMM(GMMConfig(components=2)).fit(bonafide=loud, spoof=soft)
    >>> system.score(loud[0]) > 0 > system.score(soft[0])
    True
    """

    bonafide_: Mixture
    spoof_: Mixture

    def __init__(self, config: GMMConfig | None = None) -> None:
        self.config = config or GMMConfig()

    @cached_property
    def front_end(self) -> FrontEnd:
        """What makes frames of a waveform."""
        front_end = build_front_end(self.config.front_end, **self.config.front_end_options)
        if front_end.channels != 1:
            raise ParameterError(
                "The 'front_end' parameter of GMMConfig must give one channel. "
                f"Got {self.config.front_end!r} with {front_end.channels} instead."
            )
        return front_end

    def features(self, waveform: Samples) -> Frames:
        """Frames of one utterance.

        Parameters
        ----------
        waveform : np.ndarray [shape=(n,)]
            16 kHz, full scale 1.

        Returns
        -------
        np.ndarray [shape=(frames, coefficients)]

        Raises
        ------
        ParameterError
            If the waveform is not one-dimensional and floating, or too short for one frame.
        """
        features = self.front_end(torch.from_numpy(np.ascontiguousarray(waveform)).unsqueeze(0))
        frames: Frames = features[0].T.double().numpy()
        return frames

    def fit(self, *, bonafide: Iterable[Samples], spoof: Iterable[Samples]) -> GMM:
        """Fit both mixtures.

        Parameters
        ----------
        bonafide, spoof : iterable of np.ndarray [shape=(n,)]
            Utterances, read one by one and once; 16 kHz, full scale 1.

        Returns
        -------
        GMM
            Itself.

        Raises
        ------
        ParameterError
            If a class has fewer frames than components, or a waveform is refused.
        """
        mixtures = [
            self._fit_class(name, utterances)
            for name, utterances in zip(_CLASSES, (bonafide, spoof), strict=True)
        ]
        self.bonafide_, self.spoof_ = mixtures
        return self

    def score(self, waveform: Samples) -> float:
        """Mean over frames of ln p(frame | bona fide) - ln p(frame | spoof).

        Parameters
        ----------
        waveform : np.ndarray [shape=(n,)]
            16 kHz, full scale 1.

        Returns
        -------
        float
            Higher = more bona fide.

        Raises
        ------
        ModelError
            If it is not fitted.
        ParameterError
            As for :meth:`features`.
        """
        self._require_fitted()
        frames = self.features(waveform)
        ratio = self.bonafide_.log_likelihood(frames) - self.spoof_.log_likelihood(frames)
        return float(ratio.mean())

    def save(self, path: str | Path) -> Path:
        """Write the mixtures and the configuration as one safetensors file.

        Parameters
        ----------
        path : str or Path

        Returns
        -------
        Path
            `path`.

        Raises
        ------
        ModelError
            If it is not fitted.
        MissingExtraError
            If safetensors is absent.
        """
        self._require_fitted()
        try:
            from safetensors.numpy import save
        except ImportError as error:
            raise MissingExtraError("saving a mixture", "train") from error
        arrays = {
            f"{name}.{part}": np.ascontiguousarray(getattr(getattr(self, f"{name}_"), part))
            for name in _CLASSES
            for part in _PARTS
        }
        content = save(arrays, metadata={"config": json.dumps(self.config.to_dict())})
        target = Path(path)
        unfinished = target.with_name(target.name + ".part")
        unfinished.write_bytes(content)
        return unfinished.replace(target)

    @classmethod
    def load(cls, path: str | Path) -> GMM:
        """Read back :meth:`save`; nothing in the file can run.

        Parameters
        ----------
        path : str or Path

        Returns
        -------
        GMM

        Raises
        ------
        ModelError
            If the file is absent, too large, damaged, or holds no pair of mixtures.
        MissingExtraError
            If safetensors is absent.
        """
        source = Path(path)
        arrays, plain = _read(source)
        try:
            model = cls(GMMConfig.from_dict(json.loads(plain)))
        except (ValueError, TypeError, AttributeError) as error:
            raise ModelError(
                f"The configuration in {source.name!r} is malformed: {error}"
            ) from error
        model.bonafide_, model.spoof_ = (_mixture(arrays, name, source.name) for name in _CLASSES)
        widths = {model.bonafide_.means.shape[1], model.spoof_.means.shape[1]}
        if widths != {model.front_end.coefficients}:
            raise ModelError(
                f"The mixtures in {source.name!r} are {sorted(widths)} wide; their front end "
                f"{model.config.front_end!r} gives {model.front_end.coefficients} coefficients."
            )
        return model

    def _require_fitted(self) -> None:
        if not hasattr(self, "spoof_"):
            raise ModelError("This GMM is not fitted: call fit(...) first, or GMM.load(path).")

    def _fit_class(self, name: str, utterances: Iterable[Samples]) -> Mixture:
        config = self.config
        rng = np.random.default_rng([config.seed, _CLASSES.index(name)])
        sample = FrameSample(config.max_frames, rng)
        for waveform in utterances:
            sample.add(self.features(waveform))
        frames = sample.frames()
        if len(frames) < config.components:
            raise ParameterError(
                f"The {name!r} parameter of GMM.fit must give at least {config.components} frames, "
                f"one a component. Got {len(frames)} instead."
            )
        return fit_mixture(
            frames,
            components=config.components,
            iterations=config.iterations,
            variance_floor=config.variance_floor,
            seed=config.seed,
        )


def _read(source: Path) -> tuple[dict[str, NDArray[Any]], str]:
    """Arrays and configuration of a file, bounded."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise MissingExtraError("loading a mixture", "train") from error
    if not source.is_file():
        raise ModelError(f"Mixture {str(source)!r} does not exist or is no regular file.")
    if source.stat().st_size > MAX_FILE_BYTES:
        raise ModelError(
            f"Mixture {source.name!r} is larger than {MAX_FILE_BYTES} bytes. Is it the right file?"
        )
    try:
        with safe_open(source, framework="np") as archive:
            arrays = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
            metadata = archive.metadata() or {}
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise ModelError(f"Mixture {source.name!r} is damaged or no safetensors file.") from error
    expected = {f"{name}.{part}" for name in _CLASSES for part in _PARTS}
    if set(arrays) != expected or "config" not in metadata:
        raise ModelError(
            f"Mixture {source.name!r} must hold {sorted(expected)} and a configuration. "
            f"Got {sorted(arrays)} instead."
        )
    return arrays, metadata["config"]


def _mixture(arrays: Mapping[str, NDArray[Any]], name: str, file_name: str) -> Mixture:
    """Checked mixture of one class."""
    weights, means, variances = (arrays[f"{name}.{part}"] for part in _PARTS)
    shaped = means.ndim == 2 and means.shape == variances.shape and weights.shape == means.shape[:1]
    numeric = all(a.dtype.kind == "f" and np.isfinite(a).all() for a in (weights, means, variances))
    if not (shaped and numeric and means.size):
        raise ModelError(f"The {name} mixture in {file_name!r} has wrong shapes or no numbers.")
    if not ((weights > 0).all() and abs(weights.sum() - 1.0) < 1e-3 and (variances > 0).all()):
        raise ModelError(
            f"The {name} mixture in {file_name!r} must have positive variances and positive "
            "weights that sum to 1."
        )
    return Mixture(*(np.asarray(a, dtype=np.float64) for a in (weights, means, variances)))
