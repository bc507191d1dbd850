"""Encoder and back end as one graph: the spectrum by convolution, weights in int8 if wanted.

What an encoder computes with complex numbers or with torch's fused attention has no ONNX operator;
such parts are replaced by equal ones, and the graph is compared with the network as it was trained.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from voiceguard.errors import ParameterError
from voiceguard.export import CONFIG_NAME, config_bytes, graph_bytes, probe_windows
from voiceguard.export_float16 import (
    Weights,
    check_weights,
    checked_float16,
    fixed_arrays,
    to_float16,
)
from voiceguard.export_int8 import static_int8, stored_int8, to_int8
from voiceguard.features.spectrum import PowerSpectrum
from voiceguard.features.ssl.contract import SSLEncoder
from voiceguard.features.ssl.distillmos import DistillMOSEncoder
from voiceguard.features.ssl.whisper import WhisperEncoder, WhisperLogMel
from voiceguard.models.ssl_ensemble import SSLEnsemble
from voiceguard.models.ssl_network import SSLNetwork

if TYPE_CHECKING:
    from voiceguard.detect.bundle import Manifest

TOLERANCE = 1e-3
"""Largest difference between torch and the float32 graph that an export lets pass."""

StoredWeights: TypeAlias = Weights | Literal["int8", "dynamic-int8", "static-int8"]
"""How a graph may keep its weights."""


def ssl_graph_bytes(
    network: SSLNetwork | SSLEnsemble,
    *,
    window_samples: int,
    probe: NDArray[np.float32] | None = None,
    weights: StoredWeights = "float32",
    calibration: NDArray[np.float32] | None = None,
) -> bytes:
    """Encoder and back end as one ONNX file, in memory; the batch is free.

    Parameters
    ----------
    network : SSLNetwork or SSLEnsemble
        Left as it is.
    window_samples : int
        Length that the graph takes.
    probe : np.ndarray [shape=(batch, window_samples)], optional
        Real audio to check parity on, besides noise.
    weights : {"float32", "float16", "int8", "dynamic-int8", "static-int8"}
        How weights are stored, as for :func:`voiceguard.export.export_onnx`; with int8 those of the
        encoder's linear layers in int8, see :func:`voiceguard.export_int8.stored_int8`, and all
        others in float16; with static-int8 convolutions compute in int8 besides, see
        :func:`voiceguard.export_int8.static_int8`; with dynamic-int8 the linear layers do, see
        :func:`voiceguard.export_int8.to_int8`, and all others stay in float32.
    calibration : np.ndarray [shape=(n, window_samples)], optional
        Windows that give static-int8 its scales: some dozens, of many kinds and channels.

    Returns
    -------
    bytes

    Raises
    ------
    ParameterError
        If the window is too short or too long for the encoder, the probe has another shape,
        `weights` is unknown, or static-int8 has no windows.
    ModelError
        If ONNX Runtime differs from torch by more than :data:`TOLERANCE` (in float32, before any
        rounding), int8 finds nothing to round, or float16 moves an output by more than
        :data:`voiceguard.export_float16.FLOAT16_TOLERANCE`.
    """
    if weights != "int8" and weights != "dynamic-int8" and weights != "static-int8":
        check_weights(weights, "ssl_graph_bytes")
    if weights == "static-int8" and calibration is None:
        raise ParameterError(
            "The 'calibration' parameter of ssl_graph_bytes must hold windows of audio with "
            "weights='static-int8'. Got none."
        )
    twin = traceable(network)
    raw = graph_bytes(
        twin,
        window_samples=window_samples,
        probe=probe,
        tolerance=TOLERANCE,
        reference=network,
    )
    if weights == "float32":
        return raw
    if weights == "dynamic-int8":
        return to_int8(raw)
    exact = fixed_arrays(twin)
    # Float16 is checked by itself: what it moves by thousandths, int8 may round the other way.
    halved = checked_float16(raw, exact=exact, probes=probe_windows(window_samples, probe))
    if weights == "static-int8" and calibration is not None:
        return to_float16(static_int8(raw, calibration), exact=exact)
    return to_float16(stored_int8(raw), exact=exact) if weights == "int8" else halved


def export_ssl_bundle(
    network: SSLNetwork | SSLEnsemble,
    folder: str | Path,
    *,
    manifest: Manifest,
    card: str,
    probe: NDArray[np.float32] | None = None,
    weights: StoredWeights = "float32",
    calibration: NDArray[np.float32] | None = None,
) -> Path:
    """Write encoder and back end as a bundle that :meth:`voiceguard.Detector.load` reads.

    Parameters
    ----------
    network : SSLNetwork or SSLEnsemble
    folder : str or Path
        Folder to write.
    manifest : Manifest
        What the bundle says of itself; its ``window_samples`` fixes the graph's length, and its
        ``embedding_dim`` and file hashes are filled in here.
    card : str
        The model card, Markdown.
    probe, weights, calibration
        As for :func:`ssl_graph_bytes`. Fit the calibration of the scores on those of the graph that
        is written: int8 moves them.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ParameterError, ModelError
        As :func:`ssl_graph_bytes`.
    BundleError
        If the manifest does not hold together.
    """
    from voiceguard.detect.bundle import write_bundle

    graph = ssl_graph_bytes(
        network,
        window_samples=manifest.window_samples,
        probe=probe,
        weights=weights,
        calibration=calibration,
    )
    return write_bundle(
        folder,
        graph=graph,
        manifest=replace(manifest, embedding_dim=network.embedding_dim),
        card=card,
        extra_files={CONFIG_NAME: config_bytes(network)},
    )


def traceable(network: SSLNetwork | SSLEnsemble) -> SSLNetwork | SSLEnsemble:
    """The same network of operations that ONNX has; the network itself is left as it is."""
    twin = copy.deepcopy(network).cpu().float().eval()
    for one in twin.networks if isinstance(twin, SSLEnsemble) else (twin,):
        if isinstance(one, SSLNetwork):
            one.front_end.encoder = _plain(one.encoder)
    return twin


def _plain(encoder: SSLEncoder) -> SSLEncoder:
    if isinstance(encoder, WhisperEncoder):
        return _PlainWhisper(encoder)
    if isinstance(encoder, DistillMOSEncoder):
        return _PlainDistillMOS(encoder)
    return encoder


class _LogMel(nn.Module):
    """:class:`WhisperLogMel` with its spectrum by convolution."""

    def __init__(self, published: WhisperLogMel) -> None:
        super().__init__()
        self.analysis = PowerSpectrum(n_fft=400, frame=400, hop=160, padding="reflect")
        self.register_buffer("bands", published.get_buffer("bands").float().T.unsqueeze(2))

    def forward(self, waveform: Tensor) -> Tensor:
        power = self.analysis(waveform)[..., :-1]
        log = F.conv1d(power, self.get_buffer("bands")).clamp(min=1e-10).log10()
        log = torch.maximum(log, log.amax(dim=(1, 2), keepdim=True) - 8.0)
        return (log + 4.0) / 4.0


class _PlainWhisper(WhisperEncoder):
    """Whisper's encoder with its spectrum by convolution."""

    def __init__(self, published: WhisperEncoder) -> None:
        plain = published.config
        super().__init__(
            published.whisper_config, layers=published.layers, context_s=plain["context_s"]
        )
        self.load_state_dict(published.state_dict())
        self.log_mel = _LogMel(published.log_mel)  # type: ignore[assignment]
        self.eval()

    def frames(self, samples: int) -> int:
        # A number, not a traced size: a graph's division rounds towards zero.
        return super().frames(int(samples))


class _PlainDistillMOS(DistillMOSEncoder):
    """DistillMOS with its spectrum by convolution and its attention written out."""

    def __init__(self, published: DistillMOSEncoder) -> None:
        super().__init__(layers=published.layers)
        self.load_state_dict(published.state_dict())
        self.basis = PowerSpectrum(n_fft=320, frame=320, hop=160)
        self.provenance = published.provenance
        self.eval()

    def frames(self, samples: int) -> int:
        return super().frames(int(samples))

    def _convolved(self, waveform: Tensor) -> Tensor:
        padded = F.pad(waveform, (80, 80), mode="reflect").unsqueeze(1)
        x = F.conv1d(padded, self.basis.basis, stride=self.basis.hop)
        x = torch.stack([x[:, : self.basis.bins], x[:, self.basis.bins :]], dim=1)
        magnitude = x.square().sum(1, keepdim=True).clamp(min=1e-24).sqrt()
        x = x * magnitude**-0.7
        for convolution in self.convolutions:
            x = F.leaky_relu(convolution(x), 0.1)
        return x.flatten(1, 2).transpose(1, 2)

    def _run(self, block: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return _block(block, *args)


def _block(block: Any, x: Tensor) -> Tensor:
    """``nn.TransformerEncoderLayer``, norms last, in evaluation."""
    attention = block.self_attn
    batch, frames, dim = x.shape
    parts = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)
    shape = (batch, frames, attention.num_heads, dim // attention.num_heads)
    q, k, v = (part.reshape(shape).transpose(1, 2) for part in parts.chunk(3, dim=-1))
    heard = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, frames, dim)
    x = block.norm1(x + attention.out_proj(heard))
    y: Tensor = block.norm2(x + block.linear2(F.relu(block.linear1(x))))
    return y
