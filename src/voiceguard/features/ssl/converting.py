"""Encoders that are published in forms of their own, to one safetensors file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from voiceguard._version import __version__
from voiceguard.errors import BundleError, MissingExtraError, UnknownModelError

if TYPE_CHECKING:
    from voiceguard.features.ssl.contract import SSLEncoder

LICENCE = "MIT"
"""Licence of these weights, as OpenAI (Whisper) and Microsoft (the others) publish them."""


def import_encoder(kind: str, path: str | Path, *, out: str | Path) -> Path:
    """Convert published weights to a file that ``load_encoder`` reads.

    The file's header holds the licence, and the name and SHA-256 of what was converted.

    Parameters
    ----------
    kind : str
        ``whisper-ct2``: a CTranslate2 folder, or its ``model.bin``, of Whisper in float16 or
        float32. ``distillmos``: the ``.pt`` file of the package of that name. ``dnsmos``
        and ``plcmos``: ``model_v8.onnx`` and ``plcmos_v2.onnx`` of the package speechmos.
    path : str or Path
        The folder or file.
    out : str or Path
        File to write, ``.safetensors``; any other name is a folder for ``KIND.safetensors``.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    UnknownModelError
        If the kind is unknown.
    ModelError
        If the source is absent or too large.
    BundleError
        If it is damaged or something else.
    MissingExtraError
        If torch, transformers, onnx or safetensors is absent.
    """
    if kind not in ENCODER_KINDS:
        raise UnknownModelError(
            f"Encoders of kind {kind!r} cannot be imported; known: {', '.join(ENCODER_KINDS)}."
        )
    try:
        from voiceguard.features.ssl.native import save_encoder
        from voiceguard.features.ssl.reading import check_file, file_sha256
    except ModuleNotFoundError as error:
        raise MissingExtraError("importing an encoder", "train") from error
    out = Path(out)
    target = out if out.suffix == ".safetensors" else out / f"{kind}.safetensors"
    source = Path(path)
    file = source / "model.bin" if source.is_dir() and kind == "whisper-ct2" else source
    check_file(file)
    provenance = {
        "licence": LICENCE,
        "source_file": file.name,
        "source_sha256": file_sha256(file),
        "converted_by": f"voiceguard {__version__}",
    }
    return save_encoder(ENCODER_KINDS[kind](file), target, provenance=provenance)


def _whisper_ct2(file: Path) -> SSLEncoder:
    from voiceguard.features.ssl.whisper_ct2 import read_encoder

    return read_encoder(file)


def _distillmos(file: Path) -> SSLEncoder:
    from voiceguard.features.ssl.distillmos import DistillMOSEncoder
    from voiceguard.features.ssl.loading import load_encoder

    encoder = load_encoder(file)
    if not isinstance(encoder, DistillMOSEncoder):
        raise BundleError(
            f"{file.name!r} must hold DistillMOS. Got {encoder.architecture} instead."
        )
    return encoder


def _dnsmos(file: Path) -> SSLEncoder:
    from voiceguard.features.ssl.dnsmos import read_onnx

    return read_onnx(file)


def _plcmos(file: Path) -> SSLEncoder:
    from voiceguard.features.ssl.plcmos import read_onnx

    return read_onnx(file)


ENCODER_KINDS: Mapping[str, Callable[[Path], SSLEncoder]] = MappingProxyType(
    {"whisper-ct2": _whisper_ct2, "distillmos": _distillmos, "dnsmos": _dnsmos, "plcmos": _plcmos}
)
"""Forms that can be converted."""
