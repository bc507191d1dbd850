"""The graph at work: windows in, scores and embeddings out, by ONNX Runtime."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voiceguard.errors import BundleError, ModelError, ParameterError

Floats = NDArray[np.float32]

INPUT = "waveform"
OUTPUTS = ("score", "embedding")


class OnnxEngine:
    """Run a graph on windows; one engine serves all threads.

    The session is made at the first call, so that an engine costs nothing until it is used. Rows of
    a batch do not influence each other: in any batch a window gets the same score within 1e-5.

    Parameters
    ----------
    graph : bytes
        An ONNX model with input ``waveform`` [shape=(batch, window_samples)] and outputs ``score``
        [shape=(batch,)] and ``embedding`` [shape=(batch, embedding_dim)].
    window_samples : int
        Length of a window, samples.
    embedding_dim : int
        Width of the embedding.
    threads : int
        Threads inside one call; with 1 the caller's own thread does the work.
    max_batch : int
        Most windows that go through the graph at once; bounds the memory.
    providers : sequence of str
        ONNX Runtime execution providers, in order of preference.

    Raises
    ------
    ParameterError
        If a number is not positive.
    """

    def __init__(
        self,
        graph: bytes,
        *,
        window_samples: int,
        embedding_dim: int,
        threads: int = 1,
        max_batch: int = 4,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:
        for name, value in (
            ("window_samples", window_samples),
            ("embedding_dim", embedding_dim),
            ("threads", threads),
            ("max_batch", max_batch),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ParameterError(
                    f"The {name!r} parameter of OnnxEngine must be an int >= 1. "
                    f"Got {value!r} instead."
                )
        self.window_samples = window_samples
        self.embedding_dim = embedding_dim
        self.threads = threads
        self.max_batch = max_batch
        self.providers = tuple(providers)
        self._graph: bytes | None = graph
        self._session: Any = None
        self._lock = threading.Lock()

    def run(self, windows: Floats) -> tuple[Floats, Floats]:
        """Score windows.

        Parameters
        ----------
        windows : np.ndarray [shape=(n, window_samples), dtype=float32]
            The windows; n may be zero.

        Returns
        -------
        scores : np.ndarray [shape=(n,), dtype=float32]
            Higher = more bona fide.
        embeddings : np.ndarray [shape=(n, embedding_dim), dtype=float32]
            What the graph saw.

        Raises
        ------
        ParameterError
            If the windows have another shape or a provider is not available.
        BundleError
            If the graph cannot be loaded or is not of the promised form.
        ModelError
            If the graph fails or gives a number that is not finite.
        """
        rows = np.ascontiguousarray(windows, dtype=np.float32)
        if rows.ndim != 2 or rows.shape[1] != self.window_samples:
            raise ParameterError(
                f"The 'windows' parameter of run must have shape (n, {self.window_samples}). "
                f"Got {rows.shape} instead."
            )
        scores = np.empty(len(rows), np.float32)
        embeddings = np.empty((len(rows), self.embedding_dim), np.float32)
        for first in range(0, len(rows), self.max_batch):
            part = slice(first, first + self.max_batch)
            scores[part], embeddings[part] = self._run_batch(rows[part])
        return scores, embeddings

    def _run_batch(self, rows: Floats) -> tuple[Floats, Floats]:
        try:
            score, embedding = self._ready().run(list(OUTPUTS), {INPUT: rows})
        except (ModelError, ParameterError):
            raise
        # ONNX Runtime's own exceptions share no public base class.
        except Exception as error:
            raise ModelError(f"The graph failed on {len(rows)} windows: {error}") from error
        if score.shape != (len(rows),) or embedding.shape != (len(rows), self.embedding_dim):
            raise BundleError(
                f"The graph must give a score ({len(rows)},) and an embedding "
                f"({len(rows)}, {self.embedding_dim}). Got {score.shape} and {embedding.shape}."
            )
        if not (np.isfinite(score).all() and np.isfinite(embedding).all()):
            raise ModelError("The graph gave a number that is not finite; its weights are damaged.")
        return score, embedding

    def _ready(self) -> Any:
        # The lock keeps two first callers from building the session twice.
        with self._lock:
            if self._session is None:
                self._session = self._build()
                self._graph = None
            return self._session

    def _build(self) -> Any:
        import onnxruntime

        missing = sorted(set(self.providers) - set(onnxruntime.get_available_providers()))
        if missing or not self.providers:
            raise ParameterError(
                "The 'providers' parameter of OnnxEngine must name some of "
                f"{onnxruntime.get_available_providers()}. Got {list(self.providers)} instead."
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        # Spinning burns the cores that other calls of a service need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = onnxruntime.InferenceSession(
                self._graph, options, providers=list(self.providers)
            )
        except Exception as error:
            raise BundleError(f"The graph cannot be loaded: {error}") from error
        self._check_form(session)
        return session

    def _check_form(self, session: Any) -> None:
        """Compare the graph's names, types and window length with what was promised."""
        inputs = [(value.name, value.type, value.shape[1:]) for value in session.get_inputs()]
        if inputs != [(INPUT, "tensor(float)", [self.window_samples])]:
            raise BundleError(
                f"The graph must take one float input {INPUT!r} (batch, {self.window_samples}). "
                f"Got {inputs} instead."
            )
        outputs = {value.name: value.type for value in session.get_outputs()}
        if any(outputs.get(name) != "tensor(float)" for name in OUTPUTS):
            raise BundleError(
                f"The graph must give the float outputs {OUTPUTS}. Got {outputs} instead."
            )
