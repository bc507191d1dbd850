"""Many frames to one vector, block by block, so that an hour costs no more memory than a minute.

- ``mean``: the mean over time.
- ``mean+std``: the mean, then the population standard deviation, concatenated: 2 * dim values.
- ``attentive``: a weighted mean, the weights a softmax over time. By itself it has no parameters:
  the frames' own mean m is the query, alpha_t = softmax_t(cos(m, h_t) / 0.1), so that frames which
  look like the recording as a whole count more, whatever their scale. With
  :class:`AttentiveWeights`, trained elsewhere, it is the self-attentive pooling of Zhu et al.,
  "Self-attentive speaker embeddings for text-independent speaker verification", Interspeech 2018.

Sums run in float64. The parameter-free attention needs the mean first and goes over the frames
twice; meanwhile they lie in a temporary file.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any, Literal, Union

import numpy as np
from numpy.typing import NDArray

from voiceguard.embedding.values import Values
from voiceguard.errors import ParameterError

Floats = NDArray[np.float64]
PoolName = Literal["mean", "mean+std", "attentive"]

TEMPERATURE = 0.1
"""Divides the cosine in the parameter-free attention."""

_TINY = 1e-12


@dataclass(frozen=True, eq=False)
class AttentiveWeights:
    """Trained weights of an attentive pooling: e_t = context . tanh(projection h_t + bias).

    Parameters
    ----------
    projection : np.ndarray [shape=(hidden, dim)]
        First layer.
    bias : np.ndarray [shape=(hidden,)]
        Its bias.
    context : np.ndarray [shape=(hidden,)]
        What the hidden values are weighed by.

    Raises
    ------
    ParameterError
        If the shapes do not fit each other.
    """

    projection: NDArray[Any]
    bias: NDArray[Any]
    context: NDArray[Any]

    def __post_init__(self) -> None:
        shapes = tuple(np.shape(x) for x in (self.projection, self.bias, self.context))
        if len(shapes[0]) != 2 or shapes[1] != shapes[0][:1] or shapes[2] != shapes[0][:1]:
            raise ParameterError(
                "AttentiveWeights must have the shapes (hidden, dim), (hidden,), (hidden,). "
                f"Got {shapes} instead."
            )

    @property
    def name(self) -> str:
        """``attentive:`` and the first digits of a hash of the weights."""
        digest = hashlib.sha256()
        for array in (self.projection, self.bias, self.context):
            digest.update(repr(np.shape(array)).encode())
            digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
        return f"attentive:{digest.hexdigest()[:16]}"

    def logits(self, frames: Floats) -> Floats:
        """Unnormalised weight of each frame [shape=(frames, ..., dim) to (frames, ...)]."""
        if frames.shape[-1] != self.projection.shape[1]:
            raise ParameterError(
                f"AttentiveWeights are for frames of {self.projection.shape[1]} values. "
                f"Got {frames.shape[-1]} instead."
            )
        hidden = np.tanh(frames @ np.asarray(self.projection, np.float64).T + self.bias)
        weights: Floats = hidden @ np.asarray(self.context, np.float64)
        return weights


Pool = Union[PoolName, AttentiveWeights, None]  # noqa: UP007 - evaluated on Python 3.10


def pool_name(pool: Pool) -> str | None:
    """Name of a pooling.

    Raises
    ------
    ParameterError
        If there is no such pooling.
    """
    if isinstance(pool, AttentiveWeights):
        return pool.name
    if pool is None or pool in tuple(_POOLINGS):
        return pool
    raise ParameterError(
        f"The 'pool' parameter of Embedder must be None, one of {sorted(_POOLINGS)} or "
        f"AttentiveWeights. Got {pool!r} instead."
    )


def pool_blocks(blocks: Iterable[Values], pool: PoolName | AttentiveWeights) -> Values:
    """Pool frames that come in blocks.

    Parameters
    ----------
    blocks : iterable of np.ndarray [shape=(frames, ..., dim)]
        Runs of frames in time order, together at least one frame.
    pool : str or AttentiveWeights
        How.

    Returns
    -------
    np.ndarray [shape=(..., dim), dtype=float32]
        ``mean+std`` gives (..., 2 * dim). How the frames were cut into blocks does not matter, but
        for the order of additions.

    Raises
    ------
    ParameterError
        If there is no frame, or the weights are for another dimension.
    """
    wide = (np.asarray(block, np.float64) for block in blocks if len(block))
    if isinstance(pool, AttentiveWeights):
        pooled = _weighted_mean((block, pool.logits(block)) for block in wide)
    else:
        pooled = _POOLINGS[pool](wide)
    if pooled is None:
        raise ParameterError("Pooling needs at least one frame. Got none.")
    return pooled.astype(np.float32)


def _moments(blocks: Iterable[Floats]) -> tuple[Floats, Floats] | None:
    """Mean and variance, by the merge rule of Chan, Golub and LeVeque (1979): no cancellation."""
    count, mean, squares = 0, np.zeros(()), np.zeros(())
    for block in blocks:
        added, here = len(block), block.mean(axis=0)
        apart = here - mean
        total = count + added
        squares = squares + ((block - here) ** 2).sum(axis=0)
        squares = squares + apart**2 * (count * added / total)
        mean = mean + apart * (added / total)
        count = total
    return (mean, squares / count) if count else None


def _mean(blocks: Iterable[Floats]) -> Floats | None:
    found = _moments(blocks)
    return None if found is None else found[0]


def _mean_std(blocks: Iterable[Floats]) -> Floats | None:
    found = _moments(blocks)
    return None if found is None else np.concatenate([found[0], np.sqrt(found[1])], axis=-1)


def _weighted_mean(pairs: Iterable[tuple[Floats, Floats]]) -> Floats | None:
    """Softmax-weighted mean in one pass: sums are rescaled whenever a larger logit turns up."""
    top, mass, total = np.full((), -np.inf), np.zeros(()), np.zeros(())
    seen = False
    for block, logits in pairs:
        seen = True
        higher = np.maximum(top, logits.max(axis=0))
        shrink = np.exp(top - higher)
        weights = np.exp(logits - higher)
        mass = mass * shrink + weights.sum(axis=0)
        total = total * shrink[..., None] + (weights[..., None] * block).sum(axis=0)
        top = higher
    return total / mass[..., None] if seen else None


def _attentive(blocks: Iterable[Floats]) -> Floats | None:
    with tempfile.TemporaryFile() as scratch:
        shapes: list[tuple[int, ...]] = []
        mean = _mean(_spilled(blocks, scratch, shapes))
        if mean is None:
            return None
        scratch.seek(0)
        return _weighted_mean((block, _closeness(block, mean)) for block in _back(scratch, shapes))


def _spilled(
    blocks: Iterable[Floats], scratch: IO[bytes], shapes: list[tuple[int, ...]]
) -> Iterator[Floats]:
    for block in blocks:
        # Models give float32, so nothing is lost.
        scratch.write(block.astype(np.float32).tobytes())
        shapes.append(block.shape)
        yield block


def _back(scratch: IO[bytes], shapes: list[tuple[int, ...]]) -> Iterator[Floats]:
    for shape in shapes:
        raw = scratch.read(4 * int(np.prod(shape)))
        yield np.frombuffer(raw, np.float32).reshape(shape).astype(np.float64)


def _closeness(block: Floats, mean: Floats) -> Floats:
    lengths = np.linalg.norm(block, axis=-1) * np.linalg.norm(mean, axis=-1)
    closeness: Floats = (block * mean).sum(axis=-1) / np.maximum(lengths, _TINY) / TEMPERATURE
    return closeness


_POOLINGS: dict[str, Callable[[Iterable[Floats]], Floats | None]] = {
    "mean": _mean,
    "mean+std": _mean_std,
    "attentive": _attentive,
}
