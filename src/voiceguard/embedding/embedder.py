"""Audio in, embeddings out: :func:`embed` for one input, :class:`Embedder` for many."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from voiceguard.audio import DEFAULT_LIMITS, Audio, Limits, Source
from voiceguard.detect.outputs import lightened
from voiceguard.embedding.models import EmbeddingModel, Samples, load_model
from voiceguard.embedding.pooling import Pool, pool_blocks, pool_name
from voiceguard.embedding.sources import audio_sha256, entry_key, name_of, read_at
from voiceguard.embedding.store import EmbeddingStore, StoreWriter
from voiceguard.embedding.values import Embedding, EmbeddingRow, Layer, Values
from voiceguard.errors import AudioError, ModelError

Progress = Callable[[EmbeddingRow], None]


class Embedder:
    """A model, a layer and a pooling: what turns recordings into embeddings.

    Parameters
    ----------
    model : str, path or object, optional
        As :func:`~voiceguard.embedding.load_model` takes it; by default the bundled model.
    layer : int, "all" or None
        Layer of an SSL encoder, numbered as its papers do: 0 is what the first transformer block
        takes, k what block k gives, -1 the last, "all" every one. None is the last. Other models
        have one output and take None only.
    pool : {None, "mean", "mean+std", "attentive"} or AttentiveWeights
        How frames become one vector; None keeps them. See :mod:`voiceguard.embedding.pooling`.
    float16 : bool
        Give half precision: half the space, three digits. A value beyond 65,504 is refused.
    chunk_s, context_s, device
        As :func:`~voiceguard.embedding.load_model` takes them.

    Raises
    ------
    UnknownModelError
        If there is no such model.
    ModelError
        If its files are refused.
    MissingExtraError
        If it needs torch, which is absent.
    ParameterError
        If an option is out of its domain or does not go with the model.

    Examples
    --------
    >>> embedder = Embedder("log-mel", pool="mean+std")  # doctest: +SKIP
    >>> embedder.embed("call.wav").values.shape  # doctest: +SKIP
    (128,)
    """

    def __init__(
        self,
        model: Any = None,
        *,
        layer: Layer = None,
        pool: Pool = None,
        float16: bool = False,
        chunk_s: float | None = None,
        context_s: float | None = None,
        device: str | None = None,
    ) -> None:
        self.pool = pool
        self._pool_name = pool_name(pool)
        self.model: EmbeddingModel = load_model(
            model, layer=layer, chunk_s=chunk_s, context_s=context_s, device=device
        )
        self.layer = self.model.resolve(layer)
        self.dtype = np.dtype(np.float16 if float16 else np.float32)

    def embed(
        self,
        source: Source | Audio,
        *,
        sample_rate: int | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> Embedding:
        """Embed one input.

        Parameters
        ----------
        source : path, bytes, file object, (array, rate), mapping, Audio or array
            As :func:`voiceguard.audio.read` takes it, or what that gave. A bare array needs
            `sample_rate`.
        sample_rate : int, optional
            Rate of a bare array, Hz.
        limits : Limits
            Bounds on the input.

        Returns
        -------
        Embedding

        Raises
        ------
        AudioError
            If the input cannot be taken in, or is too short for one frame.
        ModelError
            If the model fails, or gives what is not finite or does not fit into float16.
        """
        audio = self._heard(source, sample_rate, limits)
        values = np.stack([self._whole(channel) for channel in audio.samples])
        return Embedding(
            values=values[0] if len(values) == 1 else values,
            times_s=self.model.times(audio.samples.shape[1]),
            model=self.model.name,
            model_sha256=self.model.sha256,
            sample_rate=self.model.sample_rate,
            n_channels=len(values),
            layer=self.layer,
            pool=self._pool_name,
        )

    def embed_many(
        self,
        sources: Iterable[Any],
        *,
        out: str | os.PathLike[str] | None = None,
        progress: Progress | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> list[EmbeddingRow]:
        """Embed many inputs, one after the other; a bad one never stops the rest.

        Parameters
        ----------
        sources : iterable
            Inputs as :meth:`embed` takes them, a bare array excepted.
        out : path, optional
            An HDF5 file that embeddings go to, and that spares what it holds already: a recording
            that was embedded with this model and these parameters, under any name, is not embedded
            again. May be killed and started again, and used by several processes at once; see
            :mod:`voiceguard.embedding.store`. Without it the embeddings are in the rows.
        progress : callable, optional
            Called with each row.
        limits : Limits
            Bounds on each input.

        Returns
        -------
        list of EmbeddingRow
            One a source, in their order: an embedding, or its key in `out`, or an error.

        Raises
        ------
        MissingExtraError
            If `out` is given and h5py is absent.
        IntegrityError
            If `out` is there and is no such file, or damaged as a whole. A damaged entry is
            embedded again.
        """
        if out is None:
            return [_told(self._row(source, limits), progress) for source in sources]
        store = EmbeddingStore(out)
        with store.writing() as writer:
            return [
                _told(self._stored_row(source, store, writer, limits), progress)
                for source in sources
            ]

    def key(self, source: Any) -> str | None:
        """Key of a source's embedding in a file; None where it cannot be known before reading."""
        audio = audio_sha256(source)
        return None if audio is None else entry_key(audio, self._parameters())

    def _heard(self, source: Any, sample_rate: int | None, limits: Limits) -> Audio:
        audio = read_at(source, self.model.sample_rate, sample_rate=sample_rate, limits=limits)
        if not len(self.model.times(audio.samples.shape[1])):
            raise AudioError(
                f"{audio.name or 'The audio'} holds {audio.samples.shape[1]} samples at "
                f"{audio.sample_rate} Hz, too few for one frame of {self.model.name}."
            )
        return audio

    def _whole(self, channel: Samples) -> Values:
        if self.pool is None:
            return np.concatenate(list(self._blocks(channel)))
        return self._fitted(pool_blocks(self.model.blocks(channel, self.layer), self.pool))

    def _blocks(self, channel: Samples) -> Iterator[Values]:
        return (self._fitted(block) for block in self.model.blocks(channel, self.layer))

    def _fitted(self, values: Values) -> Values:
        """Values in the type that was asked for, checked to be numbers."""
        if not np.isfinite(values).all():
            raise ModelError(f"{self.model.name} gave a number that is not finite.")
        largest = float(np.finfo(self.dtype.type).max)
        if self.dtype == np.float16 and np.abs(values).max(initial=0.0) > largest:
            raise ModelError(
                f"{self.model.name} gave {np.abs(values).max():.6g}, and float16 ends at "
                f"{largest:.6g}. Embed without float16."
            )
        return values.astype(self.dtype, copy=False)

    def _row(self, source: Any, limits: Limits) -> EmbeddingRow:
        name = name_of(source)
        try:
            return EmbeddingRow(source, name, embedding=self.embed(source, limits=limits))
        # Whatever one file provokes, in a decoder or here, must not lose the others.
        except Exception as error:
            return EmbeddingRow(source, name, error=lightened(error))

    def _stored_row(
        self, source: Any, store: EmbeddingStore, writer: StoreWriter, limits: Limits
    ) -> EmbeddingRow:
        name = name_of(source)
        try:
            key, cached = self._stored(source, store, writer, limits)
        except Exception as error:
            return EmbeddingRow(source, name, error=lightened(error))
        if name is not None:
            writer.name(name, key)
        return EmbeddingRow(source, name, key=key, cached=cached)

    def _stored(
        self, source: Any, store: EmbeddingStore, writer: StoreWriter, limits: Limits
    ) -> tuple[str, bool]:
        """Key of a source's entry, and whether it was there; write it where it was not."""
        digest, audio = audio_sha256(source), None
        if digest is None:
            audio = self._heard(source, None, limits)
            digest = str(audio_sha256(audio))
        key = entry_key(digest, self._parameters())
        if key in writer or key in store:
            return key, True
        if audio is None:
            audio = self._heard(source, None, limits)
        with writer.entry(key, channels=audio.n_channels, dtype=self.dtype) as entry:
            if self.pool is None:
                for index, channel in enumerate(audio.samples):
                    entry.extend(index, self._blocks(channel))
            else:
                entry.pooled(np.stack([self._whole(channel) for channel in audio.samples]))
            times_s = self.model.times(audio.samples.shape[1])
            entry.close(times_s, {**self._parameters(), "audio_sha256": digest})
        return key, False

    def _parameters(self) -> dict[str, Any]:
        """What an entry's key hangs on besides the audio, as an entry says it."""
        return {
            "model": self.model.name,
            "model_sha256": self.model.sha256,
            "sample_rate": self.model.sample_rate,
            "layer": "" if self.layer is None else str(self.layer),
            "pool": self._pool_name or "",
            "dtype": self.dtype.name,
        }


def embed(
    source: Source | Audio,
    *,
    model: Any = None,
    layer: Layer = None,
    pool: Pool = None,
    sample_rate: int | None = None,
    **options: Any,
) -> Embedding:
    """Embed one input: :meth:`Embedder.embed` in one line.

    The model is loaded anew at each call; an :class:`Embedder` of your own keeps it.

    Parameters
    ----------
    source, sample_rate
        As in :meth:`Embedder.embed`.
    model, layer, pool, **options
        As :class:`Embedder` takes them.

    Returns
    -------
    Embedding

    Raises
    ------
    VoiceguardError
        As :class:`Embedder` and :meth:`Embedder.embed` raise it.

    Examples
    --------
    >>> import voiceguard
    >>> voiceguard.embed("call.wav", model="lfcc", pool="mean").values.shape  # doctest: +SKIP
    (60,)
    """
    embedder = Embedder(model, layer=layer, pool=pool, **options)
    return embedder.embed(source, sample_rate=sample_rate)


def _told(row: EmbeddingRow, progress: Progress | None) -> EmbeddingRow:
    if progress is not None:
        progress(row)
    return row
