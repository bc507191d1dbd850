"""What an embedding call gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Union

import numpy as np
from numpy.typing import NDArray

from voiceguard.errors import ParameterError

Values = NDArray[np.floating[Any]]
Layer = Union[int, Literal["all"], None]  # noqa: UP007 - evaluated on Python 3.10
"""One layer by its number, negative ones from the end; all of them; or None for the last."""


@dataclass(frozen=True, eq=False)
class Embedding:
    """A recording as a model sees it.

    Parameters
    ----------
    values : np.ndarray [shape=(frames, dim) or (dim,), dtype=float32 or float16]
        Frame by frame, or pooled over the frames. With ``layer="all"`` there is an axis of layers
        before the last: (frames, layers, dim) or (layers, dim). An input of several channels has
        them, never mixed, as an axis in front: (channels, frames, dim) ...; see :meth:`by_channel`.
    times_s : np.ndarray [shape=(frames,), dtype=float64]
        Centre of each frame, seconds from the start of the input; also of the frames that a pooled
        embedding was made of.
    model : str
        Name of the model.
    model_sha256 : str
        Hash of what decides its values: weights, configuration.
    sample_rate : int
        Rate that the model heard the audio at, Hz.
    n_channels : int
        Channels of the input.
    layer : int, "all" or None
        Number of the layer; None where the model has one output only.
    pool : str or None
        How frames were pooled.
    """

    values: Values
    times_s: NDArray[np.float64]
    model: str
    model_sha256: str
    sample_rate: int
    n_channels: int = 1
    layer: Layer = None
    pool: str | None = None

    def by_channel(self) -> Values:
        """Values with the axis of channels, of length one for a mono input."""
        return self.values[None] if self.n_channels == 1 else self.values


@dataclass(frozen=True)
class EmbeddingRow:
    """One input of :meth:`~voiceguard.embedding.Embedder.embed_many` and what became of it.

    Parameters
    ----------
    source : object
        The input, as it was given.
    name : str or None
        Its printable name, where it has one.
    embedding : Embedding or None
        None where there is an error, or where it went to a file.
    key : str or None
        Under which it stands in the file, for :meth:`~voiceguard.embedding.EmbeddingStore.load`.
    cached : bool
        Whether it stood in the file already.
    error : Exception or None
        What went wrong.
    """

    source: Any
    name: str | None
    embedding: Embedding | None = None
    key: str | None = None
    cached: bool = False
    error: Exception | None = None


def only_output(model: str, layer: Layer) -> None:
    """Refuse a layer of a model that has one output.

    Raises
    ------
    ParameterError
        If a layer is asked for.
    """
    if layer is not None:
        raise ParameterError(
            f"The 'layer' parameter of Embedder must be None for {model}, which has one output. "
            f"Got {layer!r} instead."
        )
