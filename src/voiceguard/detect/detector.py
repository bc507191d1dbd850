"""The detector: audio in, :class:`~voiceguard.results.Result` out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voiceguard.audio import DEFAULT_LIMITS, Audio, Limits, Source
from voiceguard.audio.quality import DEFAULT_POLICY, GatePolicy, Verdict, assess, gate
from voiceguard.detect import registry
from voiceguard.detect.bundle import Bundle, Manifest, read_bundle
from voiceguard.detect.engine import OnnxEngine
from voiceguard.detect.outputs import Embedding, Row, lightened
from voiceguard.detect.pool import in_order
from voiceguard.detect.registry import Use
from voiceguard.detect.sources import SAMPLE_RATE, take
from voiceguard.detect.verdict import Rule, Window, choose_rule, judge_channel, most_suspicious
from voiceguard.detect.windows import Spans, cut, lay
from voiceguard.errors import BundleError, ParameterError
from voiceguard.results import ChannelResult, ModelInfo, OperatingPoint, Result

UNCALIBRATED = (
    "The model is uncalibrated: its score is no likelihood ratio and carries no probability. "
    "Calibrate it on labelled recordings of your own with 'voiceguard calibrate'."
)

Samples = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Detector:
    """A model ready to score. It never changes, and one serves all threads.

    Make one with :meth:`load`.

    Parameters
    ----------
    manifest : Manifest
        What the model's bundle says of itself.
    model : ModelInfo
        The model's identity, which every result carries.
    engine : OnnxEngine
        Runs the graph; loaded at the first call that needs it.
    policy : GatePolicy
        Which audio is judged at all.

    Raises
    ------
    BundleError
        If the model takes another sample rate than 16 kHz.

    Examples
    --------
    >>> detector = Detector.load()  # doctest: +SKIP
    >>> result = detector.score("call.wav")  # doctest: +SKIP
    >>> result.label.value, result.p_spoof  # doctest: +SKIP
    ('spoof', 0.97)
    """

    manifest: Manifest
    model: ModelInfo
    engine: OnnxEngine
    policy: GatePolicy = DEFAULT_POLICY

    def __post_init__(self) -> None:
        if self.manifest.sample_rate != SAMPLE_RATE:
            raise BundleError(
                f"The model {self.model.id!r} takes {self.manifest.sample_rate} Hz; voiceguard "
                f"scores at {SAMPLE_RATE} Hz."
            )

    @classmethod
    def load(
        cls,
        name: str | os.PathLike[str] | None = None,
        *,
        use: Use | str = Use.FILES,
        threads: int = 1,
        policy: GatePolicy | None = None,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> Detector:
        """Load a model, offline.

        Parameters
        ----------
        name : str or path, optional
            Id of a bundled, pulled or imported model, or the folder of a bundle. A name that is
            both is taken as an id; write ``./name`` for the folder. By default the bundled model
            for `use`.
        use : Use or str
            What the default model is for: ``files`` (recordings and voicemail; ``vg-base``) or
            ``live`` (calls while they run; ``vg-small``). Without effect where a model is named.
        threads : int
            Threads inside one call; 1 suits a service that scores many calls at once.
        policy : GatePolicy, optional
            Which audio is judged at all; the default gate where it is None.
        providers : sequence of str
            ONNX Runtime execution providers, in order of preference.

        Returns
        -------
        Detector

        Raises
        ------
        UnknownModelError
            If there is no such model; the message names close matches.
        BundleError, IntegrityError
            If the bundle is refused.
        ParameterError
            If `threads` is no int >= 1, or there is no such use.
        """
        bundle = read_bundle(registry.locate(name, use=use))
        return cls.from_bundle(bundle, threads=threads, policy=policy, providers=providers)

    @classmethod
    def from_bundle(
        cls,
        bundle: Bundle,
        *,
        threads: int = 1,
        policy: GatePolicy | None = None,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> Detector:
        """Make a detector of a bundle that was read already. Parameters as in :meth:`load`."""
        engine = OnnxEngine(
            bundle.graph,
            window_samples=bundle.manifest.window_samples,
            embedding_dim=bundle.manifest.embedding_dim,
            threads=threads,
            providers=providers,
        )
        return cls(bundle.manifest, bundle.info, engine, policy or DEFAULT_POLICY)

    def score(
        self,
        source: Source | Audio | NDArray[Any],
        *,
        sample_rate: int | None = None,
        operating_point: str | OperatingPoint | None = None,
        prior_spoof: float = 0.5,
        limits: Limits = DEFAULT_LIMITS,
    ) -> Result:
        """Judge one input.

        Parameters
        ----------
        source : path, bytes, file object, (array, rate), mapping, Audio or array
            As :func:`voiceguard.audio.read` takes it, or what that gave. A bare array needs
            `sample_rate`.
        sample_rate : int, optional
            Rate of a bare array, Hz; refused with any other source.
        operating_point : str or OperatingPoint, optional
            Where to draw the line between bona fide and spoof: a name that the model knows, or a
            point of your own. By default the model's default.
        prior_spoof : float
            Prior probability of spoof, inside (0, 1); moves `p_spoof`, never the label.
        limits : Limits
            Bounds on the input.

        Returns
        -------
        Result
            Inconclusive, with reasons, where the audio does not allow a verdict.

        Raises
        ------
        AudioError
            If the input cannot be taken in.
        ParameterError
            If the operating point is unknown or the prior is out of its domain.
        ModelError
            If the graph fails.
        """
        started = time.perf_counter()
        rule = choose_rule(self.manifest, operating_point, prior_spoof)
        audio = take(source, sample_rate=sample_rate, limits=limits)
        channels = tuple(
            self._judge(index, samples, rule) for index, samples in enumerate(audio.samples)
        )
        return self._result(audio, channels, rule, started)

    def score_many(
        self,
        sources: Iterable[Any],
        *,
        workers: int = 1,
        on_progress: Callable[[Row], None] | None = None,
        operating_point: str | OperatingPoint | None = None,
        prior_spoof: float = 0.5,
        limits: Limits = DEFAULT_LIMITS,
    ) -> Iterator[Row]:
        """Judge many inputs; a bad one never stops the rest.

        Parameters
        ----------
        sources : iterable
            Inputs as :meth:`score` takes them. They are drawn one at a time, as rows are asked for.
        workers : int
            Inputs judged at a time, each in a thread; decoding and the network run side by side,
            so as many as there are cores pay. With more than one, up to twice as many inputs are
            drawn ahead, and held in memory where they are arrays.
        on_progress : callable, optional
            Called with each row before it is given, in the caller's thread.
        operating_point, prior_spoof, limits
            As in :meth:`score`; checked at once, not at the first row.

        Returns
        -------
        iterator of Row
            One a source, in their order, with a result or an error. Closing it early waits for the
            inputs that are being judged.

        Raises
        ------
        ParameterError
            If the operating point is unknown, the prior is out of its domain or `workers` is no
            int >= 1.
        """
        choose_rule(self.manifest, operating_point, prior_spoof)
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise ParameterError(
                "The 'workers' parameter of score_many must be an int >= 1. "
                f"Got {workers!r} instead."
            )

        def judge(source: Any) -> Row:
            return self._row(source, operating_point, prior_spoof, limits)

        def rows() -> Iterator[Row]:
            with closing(in_order(judge, sources, workers=workers)) as judged:
                for row in judged:
                    if on_progress is not None:
                        on_progress(row)
                    yield row

        return rows()

    def embed(
        self,
        source: Source | Audio | NDArray[Any],
        *,
        sample_rate: int | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> Embedding:
        """Give the network's embedding of every window, judged or not.

        Parameters
        ----------
        source, sample_rate, limits
            As in :meth:`score`.

        Returns
        -------
        Embedding
            Windows in time order, channel after channel.

        Raises
        ------
        AudioError
            If the input cannot be taken in.
        ModelError
            If the graph fails.
        """
        audio = take(source, sample_rate=sample_rate, limits=limits)
        plans = [self._plan(samples) for samples in audio.samples]
        runs = zip(audio.samples, plans, strict=True)
        vectors = [self._run(samples, spans)[1] for samples, spans in runs]
        times = np.array([span for spans in plans for span in spans], np.float64).reshape(-1, 2)
        return Embedding(
            vectors=np.concatenate(vectors),
            start_s=times[:, 0] / SAMPLE_RATE,
            end_s=times[:, 1] / SAMPLE_RATE,
            channel=np.repeat(np.arange(audio.n_channels), [len(spans) for spans in plans]),
        )

    def _row(self, source: Any, point: Any, prior_spoof: float, limits: Limits) -> Row:
        try:
            result = self.score(
                source, operating_point=point, prior_spoof=prior_spoof, limits=limits
            )
        # Whatever one file provokes, in a decoder or here, must not lose the others' verdicts.
        except Exception as error:
            return Row(source, None, lightened(error))
        return Row(source, result, None)

    def _plan(self, samples: Samples) -> Spans:
        manifest = self.manifest
        return lay(samples, window=manifest.window_samples, hop=manifest.hop_samples)

    def _run(self, samples: Samples, spans: Sequence[tuple[int, int]]) -> tuple[Samples, Samples]:
        batches = cut(
            samples, spans, window=self.manifest.window_samples, batch=self.engine.max_batch
        )
        scores = [np.empty(0, np.float32)]
        vectors = [np.empty((0, self.engine.embedding_dim), np.float32)]
        for batch in batches:
            score, embedding = self.engine.run(batch)
            scores.append(score)
            vectors.append(embedding)
        return np.concatenate(scores), np.concatenate(vectors)

    def _judge(self, index: int, samples: Samples, rule: Rule) -> ChannelResult:
        spans = self._plan(samples)
        quality = assess(samples, spans)
        overall = gate(quality.overall, self.policy, whole=True)
        gates = [gate(each, self.policy, whole=False) for each in quality.windows]
        scores = self._scores(samples, spans, overall, gates)
        windows = [
            Window(start / SAMPLE_RATE, stop / SAMPLE_RATE, measured, found, score)
            for (start, stop), measured, found, score in zip(
                spans, quality.windows, gates, scores, strict=True
            )
        ]
        return judge_channel(index, windows, quality.overall, overall, rule)

    def _scores(
        self,
        samples: Samples,
        spans: Sequence[tuple[int, int]],
        overall: Verdict,
        gates: Sequence[Verdict],
    ) -> list[float | None]:
        """Score of each window that may be judged; only those are run."""
        scores: list[float | None] = [None] * len(spans)
        if overall.blocked:
            return scores
        open_ones = [i for i, found in enumerate(gates) if not found.blocked]
        for i, score in zip(
            open_ones, self._run(samples, [spans[i] for i in open_ones])[0], strict=True
        ):
            scores[i] = float(score)
        return scores

    def _result(
        self, audio: Audio, channels: tuple[ChannelResult, ...], rule: Rule, started: float
    ) -> Result:
        chosen = most_suspicious(channels)
        uncalibrated = () if rule.calibration is not None else (UNCALIBRATED,)
        return Result(
            label=chosen.label,
            score=chosen.score,
            llr=chosen.llr,
            p_spoof=chosen.p_spoof,
            prior_spoof=float(rule.prior_spoof),
            reasons=chosen.reasons,
            segments=chosen.segments,
            channels=channels,
            speech_s=chosen.speech_s,
            duration_s=audio.duration_s,
            sample_rate=audio.source_rate,
            model=self.model,
            operating_point=rule.point,
            warnings=audio.warnings + uncalibrated,
            elapsed_s=time.perf_counter() - started,
            path=audio.name,
        )


def score(source: Source | Audio | NDArray[Any], **options: Any) -> Result:
    """Judge one input with the bundled model for files: :meth:`Detector.score` in one line.

    The first call loads the model, some tenths of a second, and keeps it for the process; a
    :class:`Detector` of your own lets you choose the model and when it is loaded.

    Parameters
    ----------
    source, **options
        As in :meth:`Detector.score`.

    Returns
    -------
    Result
    """
    return _default().score(source, **options)


@cache
def _default() -> Detector:
    return Detector.load()
