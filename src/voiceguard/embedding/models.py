"""What can embed: one contract, and finding a model by its name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from voiceguard.detect.bundle import MANIFEST_NAME
from voiceguard.embedding.values import Layer, Values
from voiceguard.errors import ParameterError, UnknownModelError

Samples = NDArray[np.float32]

SPECTRAL = {
    "lfcc": "lfcc_asvspoof2019",
    "cqcc": "cqcc_asvspoof2019",
    "mfcc": "mfcc",
    "log-mel": "log_mel",
    "log-spectrogram": "log_spectrogram",
    "cqt": "cqt",
    "sinc": "sinc",
    "lfcc-asvspoof2019": "lfcc_asvspoof2019",
    "lfcc-lcnn2021": "lfcc_lcnn2021",
    "lfcc-gmm2021": "lfcc_gmm2021",
    "cqcc-asvspoof2019": "cqcc_asvspoof2019",
    "cqcc-asvspoof2021": "cqcc_asvspoof2021",
}
"""Names of spectral models, and the front ends that they mean; a bare ``lfcc`` or ``cqcc`` is that
of the 2019 challenge. ``compressed`` is not among them: it divides by the level of all that it is
given, so that it has no frames of its own."""


@runtime_checkable
class EmbeddingModel(Protocol):
    """What turns one channel into frames, a block at a time.

    Attributes
    ----------
    name : str
        What it is called in results.
    sha256 : str
        Hash of all that decides its values; part of the key in a cache.
    sample_rate : int
        Rate that it hears, Hz.
    dim : int
        Values of a frame.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def sha256(self) -> str: ...  # noqa: D102

    @property
    def sample_rate(self) -> int: ...  # noqa: D102

    @property
    def dim(self) -> int: ...  # noqa: D102

    def resolve(self, layer: Layer) -> Layer:
        """Give the number of a layer, "all", or None where there is one output.

        Raises :class:`~voiceguard.errors.ParameterError` where there is no such layer.
        """
        ...

    def times(self, n_samples: int) -> NDArray[np.float64]:
        """Centres of the frames that `n_samples` give, seconds; empty where they are too few."""
        ...

    def blocks(self, channel: Samples, layer: Layer) -> Iterator[Values]:
        """Frames of a channel [shape=(n,)] in runs, in time order.

        Each has the shape (frames, dim), or (frames, layers, dim) for ``layer="all"``.
        """
        ...


def load_model(
    model: Any = None,
    *,
    layer: Layer = "all",
    chunk_s: float | None = None,
    context_s: float | None = None,
    device: str | None = None,
) -> EmbeddingModel:
    """Find a model.

    Parameters
    ----------
    model : str, path or object, optional
        A spectral front end (``lfcc``, ``cqcc``, ``mfcc``, ``log-mel``, ``log-spectrogram``,
        ``cqt``, ``sinc`` or a variant such as ``lfcc-lcnn2021``); the id of a bundled, pulled or
        imported model, or the folder of a bundle (``aasist``: 160 values a window); a name or file
        that :func:`voiceguard.features.ssl.load_encoder` takes. Or an object: a Detector, a
        FrontEnd, an SSLEncoder, or an :class:`EmbeddingModel` of your own. By default the bundled
        model.
    chunk_s : float, optional
        Seconds of audio whose frames are computed at once; bounds the memory. Refused for a bundle,
        whose windows are fixed, and for a model of your own.
    context_s : float, optional
        Seconds of audio that an SSL encoder hears on both sides of a chunk; refused for others,
        whose context follows from their filters.
    layer : int, "all" or None
        Layer that will be asked for: an encoder is built without the blocks above it.
    device : str, optional
        Torch device ("cuda"); refused for a bundle and for a model of your own.

    Returns
    -------
    EmbeddingModel

    Raises
    ------
    UnknownModelError
        If there is no such model.
    MissingExtraError
        If it needs torch, which is absent.
    ModelError
        If its files are refused.
    ParameterError
        If an option does not go with the model.
    """
    for name, value in (("chunk_s", chunk_s), ("context_s", context_s)):
        _check_seconds(name, value)
    if isinstance(model, EmbeddingModel):
        _refuse(model.name, chunk_s=chunk_s, context_s=context_s, device=device)
        return model
    if isinstance(model, str) and _plain(model) in SPECTRAL:
        from voiceguard.embedding.spectral import SpectralModel

        _refuse(model, context_s=context_s)
        return SpectralModel.named(_plain(model), chunk_s=chunk_s, device=device)
    if _is_bundle(model):
        from voiceguard.embedding.bundles import BundleModel

        bundle = str(model or "the bundled model")
        _refuse(bundle, chunk_s=chunk_s, context_s=context_s, device=device)
        return BundleModel.load(model)
    return _torch_model(model, layer, chunk_s=chunk_s, context_s=context_s, device=device)


def _torch_model(
    model: Any,
    layer: Layer,
    *,
    chunk_s: float | None,
    context_s: float | None,
    device: str | None,
) -> EmbeddingModel:
    from voiceguard.embedding.encoders import EncoderModel, is_encoder
    from voiceguard.embedding.spectral import SpectralModel, is_front_end

    if isinstance(model, (str, os.PathLike)):
        try:
            return EncoderModel.named(
                model, layer=layer, chunk_s=chunk_s, context_s=context_s, device=device
            )
        except UnknownModelError as error:
            raise UnknownModelError(
                f"There is no model {str(model)!r} to embed with. There are {sorted(SPECTRAL)}, "
                f"the bundles that 'voiceguard models list' shows, and encoders: {error}"
            ) from error
    if is_encoder(model):
        return EncoderModel(model, chunk_s=chunk_s, context_s=context_s, device=device)
    if is_front_end(model):
        _refuse(type(model).__name__, context_s=context_s)
        return SpectralModel(model, chunk_s=chunk_s, device=device)
    raise ParameterError(
        "The 'model' parameter of Embedder must be a name, a path, a Detector, a FrontEnd, an "
        f"SSLEncoder or an EmbeddingModel. Got {type(model).__name__} instead."
    )


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def _is_bundle(model: Any) -> bool:
    from voiceguard.detect import registry
    from voiceguard.detect.detector import Detector

    if model is None or isinstance(model, Detector):
        return True
    if not isinstance(model, (str, os.PathLike)):
        return False
    names = {each.name for each in registry.installed()} | {e.name for e in registry.ENTRIES}
    return str(model) in names or Path(model, MANIFEST_NAME).is_file()


def _check_seconds(name: str, value: float | None) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value is not None and not (number and 0 < value < float("inf")):
        raise ParameterError(
            f"The {name!r} parameter of Embedder must be None or a number > 0. "
            f"Got {value!r} instead."
        )


def _refuse(model: str, **options: float | str | None) -> None:
    for name, value in options.items():
        if value is not None:
            raise ParameterError(
                f"The {name!r} parameter of Embedder does not go with {model}. Leave it out."
            )
