"""Published checkpoints to bundles.

A ``.pth`` file is a pickle, so it is read in one place only, here, by torch's restricted unpickler,
which builds tensors and refuses anything that could run code. What comes out is kept as
safetensors and exported as a graph; nothing downstream reads the pickle again.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voiceguard._version import __version__
from voiceguard.errors import MissingExtraError, ModelError, ParameterError, UnknownModelError
from voiceguard.features._state_fit import first_names, misshapen

if TYPE_CHECKING:
    from torch import Tensor

    from voiceguard.detect.bundle import Manifest
    from voiceguard.models.aasist import AASIST

MAX_CHECKPOINT_BYTES = 64 * 1024 * 1024
"""Larger files are refused, and archives that would unpack to more."""

WEIGHTS_NAME = "weights.safetensors"
"""The weights, in the bundle's folder."""

_KINDS = ("aasist",)


@dataclass(frozen=True)
class _Variant:
    """A network that published checkpoints fit."""

    name: str
    title: str
    description: str


_VARIANTS = {
    "aasist": _Variant("aasist", "AASIST", "Graph attention network on the raw waveform."),
    "aasist-l": _Variant(
        "aasist-l", "AASIST-L", "Light graph attention network on the raw waveform."
    ),
}


def import_checkpoint(
    kind: str, path: str | Path, *, out: str | Path, variant: str | None = None
) -> Path:
    """Convert a published checkpoint to a bundle.

    The bundle carries no calibration: its results hold a raw score (the bona fide logit) and say
    that they are uncalibrated. The weights are written once more as safetensors beside the graph.

    Parameters
    ----------
    kind : str
        Family of the checkpoint; ``aasist``.
    path : str or Path
        The ``.pth`` file.
    out : str or Path
        Folder to write the bundle to.
    variant : str, optional
        ``aasist`` or ``aasist-l``; told from the shapes where it is not given.

    Returns
    -------
    Path
        The bundle's folder.

    Raises
    ------
    UnknownModelError
        If the kind is unknown.
    ParameterError
        If the variant is unknown.
    MissingExtraError
        If torch, onnx or safetensors is absent.
    ModelError
        If the file is absent, too large, no checkpoint, holds code, or does not fit the network.
    """
    if kind not in _KINDS:
        raise UnknownModelError(
            f"Checkpoints of kind {kind!r} cannot be imported; known kinds: {', '.join(_KINDS)}."
        )
    if variant is not None and variant not in _VARIANTS:
        raise ParameterError(
            f"The 'variant' parameter of import_checkpoint must be one of {sorted(_VARIANTS)}. "
            f"Got {variant!r} instead."
        )
    _require_extra()
    source = Path(path)
    content = _read(source)
    weights = _weights_only(content, source.name)
    chosen = _VARIANTS[variant or _detect(weights, source.name)]
    model = _fill(chosen, weights, source.name)
    return _write(model, chosen, source_name=source.name, content=content, out=Path(out))


def _require_extra() -> None:
    try:
        import onnx  # noqa: F401
        import safetensors  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("importing a checkpoint", "train") from error


def _read(source: Path) -> bytes:
    """Whole file, bounded."""
    if not source.is_file():
        raise ModelError(f"Checkpoint {str(source)!r} does not exist or is no regular file.")
    try:
        with source.open("rb") as stream:
            content = stream.read(MAX_CHECKPOINT_BYTES + 1)
    except OSError as error:
        raise ModelError(
            f"Checkpoint {str(source)!r} cannot be read: {error.strerror or error}."
        ) from error
    if len(content) > MAX_CHECKPOINT_BYTES:
        raise ModelError(
            f"Checkpoint {source.name!r} is larger than {MAX_CHECKPOINT_BYTES} bytes; the "
            "published ones stay below 2 MB. Is it the right file?"
        )
    return content


def _check_archive(content: bytes, name: str) -> None:
    """Refuse what is no archive of torch's since 1.6, or unpacks to more than the limit.

    Raises
    ------
    ModelError
        In both cases.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    # zipfile raises several types on a damaged directory.
    except Exception as error:
        raise ModelError(
            f"Checkpoint {name!r} is damaged or no torch checkpoint: it must be a zip archive as "
            "torch.save writes it. Fetch it again and compare its SHA-256."
        ) from error
    if unpacked > MAX_CHECKPOINT_BYTES:
        raise ModelError(
            f"Checkpoint {name!r} would unpack to {unpacked} bytes; at most "
            f"{MAX_CHECKPOINT_BYTES} are taken. Is it the right file?"
        )


def _weights_only(content: bytes, name: str) -> dict[str, Tensor]:
    """State dict out of the pickle, by the restricted unpickler.

    Raises
    ------
    ModelError
        If the bytes are no torch checkpoint, hold anything besides tensors, or no state dict.
    """
    import pickle

    import torch

    _check_archive(content, name)
    try:
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"Checkpoint {name!r} was refused: it holds objects besides tensors, or is no torch "
            "checkpoint. Only plain state dicts are read, because anything else could run code."
        ) from error
    # A damaged record surfaces as whatever the parser stumbled over.
    except Exception as error:
        raise ModelError(
            f"Checkpoint {name!r} is damaged or no torch checkpoint "
            f"({type(error).__name__}). Fetch it again and compare its SHA-256."
        ) from error
    if not isinstance(loaded, Mapping) or not loaded:
        raise ModelError(
            f"Checkpoint {name!r} must hold a state dict (names to tensors). "
            f"Got {type(loaded).__name__} instead."
        )
    for key, value in loaded.items():
        _check_entry(key, value, name)
    return {key.removeprefix("module."): value for key, value in loaded.items()}


def _check_entry(key: Any, value: Any, name: str) -> None:
    import torch

    dense = isinstance(value, torch.Tensor) and value.layout == torch.strided
    if not isinstance(key, str) or not dense or value.is_quantized:
        raise ModelError(
            f"Checkpoint {name!r} must hold names and dense tensors only. Got "
            f"{type(value).__name__} under {key!r} instead. Import the model's state dict, not a "
            "training checkpoint."
        )


def _detect(weights: Mapping[str, Tensor], name: str) -> str:
    """Variant by the width of the spectral positions, the last axis of ``pos_S``."""
    from voiceguard.models.aasist import AASISTConfig

    widths = {AASISTConfig.AASIST.widths[1]: "aasist", AASISTConfig.AASIST_L.widths[1]: "aasist-l"}
    position = weights.get("pos_S")
    width = position.shape[-1] if position is not None and position.ndim == 3 else None
    if width not in widths:
        raise ModelError(
            f"Checkpoint {name!r} is neither AASIST nor AASIST-L: 'pos_S' must have shape "
            f"(1, 23, 64) or (1, 23, 24). Got "
            f"{'no such tensor' if position is None else tuple(position.shape)} instead."
        )
    return widths[width]


def _fill(variant: _Variant, weights: Mapping[str, Tensor], name: str) -> AASIST:
    """Build the network and load it strictly.

    Shapes are compared before a value is touched: a few bytes can declare a tensor of any size.
    """
    import torch

    from voiceguard.models.aasist import AASIST, AASISTConfig

    config = AASISTConfig.AASIST if variant.name == "aasist" else AASISTConfig.AASIST_L
    model = AASIST(config)
    _check_fit(model.state_dict(), weights, title=variant.title, name=name)
    if not all(bool(torch.isfinite(tensor).all()) for tensor in weights.values()):
        raise ModelError(f"Checkpoint {name!r} holds NaN or infinity; it cannot score.")
    model.load_state_dict(dict(weights), strict=True)
    return model.eval()


def _check_fit(
    expected: Mapping[str, Tensor], weights: Mapping[str, Tensor], *, title: str, name: str
) -> None:
    """Compare names and shapes; name the first few differences.

    Raises
    ------
    ModelError
        If a tensor is missing, unexpected or of another shape.
    """
    missing = [key for key in expected if key not in weights]
    unexpected = [key for key in weights if key not in expected]
    if missing or unexpected:
        raise ModelError(
            f"Checkpoint {name!r} does not fit {title}. Missing: {first_names(missing)}. "
            f"Unexpected: {first_names(unexpected)}."
        )
    wrong = misshapen(expected, weights)
    if wrong:
        raise ModelError(f"Checkpoint {name!r} does not fit {title}. Shapes: {first_names(wrong)}.")


def _write(
    model: AASIST, variant: _Variant, *, source_name: str, content: bytes, out: Path
) -> Path:
    """Export the graph, serialise the weights, write the bundle."""
    from safetensors.torch import save

    from voiceguard.export import export_bundle

    digest = hashlib.sha256(content).hexdigest()
    manifest = _manifest(variant, source_name=source_name, digest=digest)
    return export_bundle(
        model,
        out,
        manifest=manifest,
        card=_card(variant, source_name=source_name, digest=digest),
        extra_files={WEIGHTS_NAME: save(model.state_dict())},
    )


def _manifest(variant: _Variant, *, source_name: str, digest: str) -> Manifest:
    from voiceguard.detect.bundle import Manifest
    from voiceguard.models.aasist import WINDOW_SAMPLES

    return Manifest(
        id=variant.name,
        version="1",
        licence="MIT",
        description=variant.description,
        sample_rate=16000,
        window_samples=WINDOW_SAMPLES,
        hop_samples=WINDOW_SAMPLES // 2,
        provenance={
            "source_file": source_name,
            "source_sha256": digest,
            "converted_by": f"voiceguard {__version__}",
        },
    )


def _card(variant: _Variant, *, source_name: str, digest: str) -> str:
    return f"""# {variant.title}, imported

{variant.description} Architecture: Jung et al., "AASIST: Audio Anti-Spoofing using Integrated
Spectro-Temporal Graph Attention Networks", ICASSP 2022 (arXiv 2110.01200).

- Weights: `{source_name}`, SHA-256 `{digest}`, converted by voiceguard {__version__}. The published
  weights are under the MIT licence; weights of your own are under yours.
- Input: 64,600 samples (4.04 s) at 16 kHz, full scale 1, not normalised.
- Score: the bona fide logit, higher = more bona fide. **Not calibrated**: no likelihood ratio, no
  probability and no verdict until you calibrate it on labelled recordings of your own.
- Limits: trained by its authors on studio recordings and the synthesis systems of one challenge;
  expect far worse results on telephone calls and on newer systems.
"""
