"""Encoders in a file of their own: safetensors whose header says what they are.

Converted and fine-tuned encoders are kept so: one file, no pickle, with architecture, shape, chosen
layers and where the weights came from.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from voiceguard.errors import BundleError, MissingExtraError, ModelError, ParameterError
from voiceguard.features.ssl.cepstra import CepstralEncoder
from voiceguard.features.ssl.contract import SSLEncoder
from voiceguard.features.ssl.distillmos import DistillMOSEncoder
from voiceguard.features.ssl.dnsmos import DNSMOSEncoder
from voiceguard.features.ssl.plcmos import PLCMOSEncoder
from voiceguard.features.ssl.reading import State, as_float32, check_fit, checked_state
from voiceguard.features.ssl.torchaudio_encoders import WaveEncoder
from voiceguard.features.ssl.wave_config import FAMILIES
from voiceguard.features.ssl.whisper import WhisperEncoder

HEADER = "voiceguard_encoder"
"""Key of the header's text."""

FORMAT = 1
"""Version of the header."""

_Known = (
    type[WaveEncoder]
    | type[WhisperEncoder]
    | type[DistillMOSEncoder]
    | type[DNSMOSEncoder]
    | type[PLCMOSEncoder]
    | type[CepstralEncoder]
)
_CLASSES: dict[str, _Known] = {
    **dict.fromkeys(FAMILIES, WaveEncoder),
    "whisper": WhisperEncoder,
    "distillmos": DistillMOSEncoder,
    "dnsmos": DNSMOSEncoder,
    "plcmos": PLCMOSEncoder,
    "cepstra": CepstralEncoder,
}
_NO_OPTIONS = ("config", "layers")


def save_encoder(
    encoder: SSLEncoder, path: str | Path, *, provenance: Mapping[str, str] | None = None
) -> Path:
    """Write an encoder, fine-tuned or converted, to one safetensors file.

    Parameters
    ----------
    encoder : SSLEncoder
    path : str or Path
        File to write, ``.safetensors``; one that is there is replaced.
    provenance : mapping of str to str, optional
        Where the weights came from, such as ``licence``, ``source_file``, ``source_sha256``;
        added to what the encoder knows.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    MissingExtraError
        If safetensors is absent.
    ParameterError
        If the file's name ends otherwise.
    ModelError
        If it cannot be written.
    """
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise MissingExtraError("writing safetensors", "train") from error
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ParameterError(
            "The 'path' parameter of save_encoder must end in '.safetensors'. "
            f"Got {str(path)!r} instead."
        )
    header = {
        "format": FORMAT,
        "architecture": encoder.architecture,
        "config": encoder.config,
        "layers": encoder.layers,
        "provenance": {**encoder.provenance, **(provenance or {})},
    }
    state = {
        name: tensor.detach().cpu().contiguous() for name, tensor in encoder.state_dict().items()
    }
    scratch = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_bytes(save(state, {HEADER: json.dumps(header, sort_keys=True)}))
        scratch.replace(path)
    except OSError as error:
        raise ModelError(f"{str(path)!r} cannot be written: {error.strerror}.") from error
    return path


def from_file(
    state: State,
    text: str,
    *,
    name: str,
    layers: Sequence[int] | None = None,
    **options: Any,
) -> SSLEncoder:
    """Encoder from the tensors and the header's text of a file that :func:`save_encoder` wrote.

    Parameters
    ----------
    state : dict of str to Tensor
    text : str
        The header under :data:`HEADER`.
    name : str
        The file, for messages.
    layers : sequence of int, optional
        Layers to give; those on record by default.
    **options
        Of the encoder's class; those on record by default.

    Raises
    ------
    BundleError
        If the header is not understood, tensors do not fit, or a layer is not in the file.
    """
    header = _parsed(text, name)
    stored = _stored(header, name)
    check_fit(stored.state_dict(), state, name=name)
    chosen = header["layers"] if layers is None else layers
    encoder = _empty(header, layers=chosen, **options)
    needed = encoder.state_dict()
    absent = [key for key in needed if key not in state]
    if absent:
        raise BundleError(
            f"Weights file {name!r} holds the layers up to {stored.top} of {stored.architecture}; "
            f"layers {list(encoder.layers)} need more ({absent[0]!r})."
        )
    weights = as_float32(checked_state(encoder.tensors_from(state), name))
    check_fit(needed, weights, name=name)
    encoder.load_state_dict(weights, assign=True)
    encoder.provenance = header["provenance"]
    return encoder.eval()


def check_options(kind: type[SSLEncoder], options: Mapping[str, Any]) -> None:
    """Refuse options that a class of encoders does not take.

    Raises
    ------
    ParameterError
        Naming the option and those that there are.
    """
    known = [name for name in inspect.signature(kind).parameters if name not in _NO_OPTIONS]
    for name in options:
        if name not in known:
            raise ParameterError(
                f"{kind.__name__} has no option {name!r}; it takes {', '.join(known)}."
            )


def _parsed(text: str, name: str) -> dict[str, Any]:
    try:
        header = json.loads(text)
        known = header["format"] == FORMAT and header["architecture"] in _CLASSES
        provenance = {str(k): str(v) for k, v in header["provenance"].items()}
        layers, config = list(header["layers"]), dict(header["config"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BundleError(f"The header of weights file {name!r} is damaged: {error}.") from error
    if not known:
        raise BundleError(
            f"Weights file {name!r} has format {header['format']!r} and architecture "
            f"{header['architecture']!r}; this version reads format {FORMAT} of "
            f"{', '.join(_CLASSES)}."
        )
    return {**header, "provenance": provenance, "layers": layers, "config": config}


def _empty(header: dict[str, Any], **options: Any) -> SSLEncoder:
    kind = _CLASSES[header["architecture"]]
    check_options(kind, {key: value for key, value in options.items() if key != "layers"})
    with torch.device("meta"):
        return kind.from_config(header["config"], **options)


def _stored(header: dict[str, Any], name: str) -> SSLEncoder:
    """The encoder that the header describes, without weights."""
    try:
        return _empty(header, layers=header["layers"])
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"The header of weights file {name!r} does not fit {header['architecture']}: {error}."
        ) from error
