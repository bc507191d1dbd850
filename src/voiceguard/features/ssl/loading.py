"""One function that loads an encoder, whatever the layout of its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from voiceguard.errors import BundleError, ParameterError
from voiceguard.features.ssl import (
    distillmos,
    fairseq,
    huggingface,
    native,
    wave_layouts,
    whisper_layouts,
)
from voiceguard.features.ssl.cepstra import CepstralEncoder
from voiceguard.features.ssl.contract import SSLEncoder
from voiceguard.features.ssl.reading import (
    State,
    check_file,
    checked_state,
    read_json,
    read_pickle,
    read_safetensors,
)
from voiceguard.features.ssl.registry import encoder_entry, pulled_file
from voiceguard.features.ssl.torchaudio_encoders import WaveEncoder
from voiceguard.features.ssl.wave_config import WAVE_CONFIGS
from voiceguard.features.ssl.whisper import WHISPER_CONFIGS, WhisperEncoder
from voiceguard.features.ssl.whisper_ct2 import MODEL_NAME

_PICKLES = (".pt", ".pth", ".bin")


def load_encoder(
    name_or_path: str | PathLike[str],
    *,
    architecture: str | None = None,
    layers: Sequence[int] | None = None,
    sha256: str | None = None,
    **options: Any,
) -> SSLEncoder:
    """Load a pretrained encoder from this machine, in evaluation mode and float32.

    Read are: a folder in the Hugging Face layout (``config.json`` with ``model.safetensors`` or
    ``pytorch_model.bin``); a ``.safetensors`` file of :func:`save_encoder`; a state dict in the
    names of torchaudio, fairseq, transformers, OpenAI's Whisper or DistillMOS as ``.safetensors``,
    ``.pt``, ``.pth`` or ``.bin``. Nothing is fetched and nothing in a file is run.

    Parameters
    ----------
    name_or_path : str or path-like
        A folder, a file, the name of an encoder on record that was pulled, or ``cepstra``, which
        has nothing to read.
    architecture : str, optional
        A published size, such as ``xls-r-300m`` or ``whisper-tiny``; told by the file where it is
        not given. Where the file says otherwise it is refused.
    layers : sequence of int, optional
        Layers to give, 0 to the number of blocks, negative ones from the end; all by default.
        Blocks above the highest are not kept.
    sha256 : str, optional
        SHA-256 of the weights file; compared before the file is parsed.
    **options
        Of the encoder's class: `gradient_checkpointing`; `normalize` and `final_norm` of
        :class:`WaveEncoder`; `context_s` of :class:`WhisperEncoder`.

    Returns
    -------
    SSLEncoder

    Raises
    ------
    UnknownModelError
        If it is neither a path nor an encoder that was pulled.
    ModelError
        If the file cannot be read.
    BundleError
        If it is damaged, of an unknown layout, holds code, or does not fit the architecture.
    IntegrityError
        If its SHA-256 is another.
    ParameterError
        If `architecture`, `layers` or an option is unknown.
    MissingExtraError
        If a library is absent.
    """
    if architecture is not None and architecture not in (*WAVE_CONFIGS, *WHISPER_CONFIGS):
        raise ParameterError(
            "The 'architecture' parameter of load_encoder must be one of "
            f"{[*WAVE_CONFIGS, *WHISPER_CONFIGS]}. Got {architecture!r} instead."
        )
    path = Path(name_or_path).expanduser()
    chosen = {"layers": layers, **options}
    if str(name_or_path) == CepstralEncoder.architecture and not path.exists():
        native.check_options(CepstralEncoder, options)
        cepstra = CepstralEncoder(**chosen).eval()
        _check_architecture(cepstra, architecture, cepstra.architecture)
        return cepstra
    if not path.exists():
        entry = encoder_entry(str(name_or_path))
        path, architecture = pulled_file(entry), architecture or entry.architecture
        sha256 = sha256 or entry.sha256
    if path.is_dir():
        encoder = _from_folder(path, sha256, chosen)
    else:
        encoder = _from_file(path, sha256, architecture, chosen)
    _check_architecture(encoder, architecture, path.name)
    encoder.provenance.setdefault("source_file", path.name)
    return encoder


def _from_folder(folder: Path, sha256: str | None, chosen: dict[str, Any]) -> SSLEncoder:
    if (folder / MODEL_NAME).is_file():
        raise BundleError(
            f"{folder.name!r} holds a CTranslate2 model. Convert it first: "
            f"voiceguard models import whisper-ct2 {folder} --out FILE.safetensors"
        )
    plain = read_json(folder / huggingface.CONFIG_NAME)
    weights = huggingface.weights_file(folder)
    check_file(weights, sha256=sha256)
    state, _ = _state(weights, hint="Save the model anew as safetensors.")
    name = f"{folder.name}/{weights.name}"
    if plain.get("model_type") == "whisper":
        native.check_options(WhisperEncoder, _options(chosen))
        config = whisper_layouts.config_from(plain)
        renamed = whisper_layouts.encoder_state(state, name=name)
        return whisper_layouts.fill(config, renamed, name=name, **chosen)
    native.check_options(WaveEncoder, _options(chosen))
    shape = huggingface.config_from(plain)
    renamed = wave_layouts.to_torchaudio(state, name=name)
    return wave_layouts.fill(shape, renamed, name=name, **chosen)


def _from_file(
    path: Path, sha256: str | None, architecture: str | None, chosen: dict[str, Any]
) -> SSLEncoder:
    check_file(path, sha256=sha256)
    state, header = _state(path, hint=fairseq.CONVERT)
    name = path.name
    if native.HEADER in header:
        return native.from_file(state, header[native.HEADER], name=name, **chosen)
    if distillmos.recognises(state):
        native.check_options(distillmos.DistillMOSEncoder, _options(chosen))
        return distillmos.from_state(state, name=name, **chosen)
    if whisper_layouts.recognises(state):
        native.check_options(WhisperEncoder, _options(chosen))
        state = whisper_layouts.encoder_state(state, name=name)
        shape = whisper_layouts.told_by_shapes(state, name=name)
        return whisper_layouts.fill(shape, state, name=name, **chosen)
    native.check_options(WaveEncoder, _options(chosen))
    state = wave_layouts.to_torchaudio(state, name=name)
    known = WAVE_CONFIGS.get(architecture or "")
    config = known or wave_layouts.told_by_shapes(state, name=name)
    return wave_layouts.fill(config, state, name=name, **chosen)


def _state(path: Path, *, hint: str) -> tuple[State, dict[str, str]]:
    """Tensors by name, in float32, and the header of a safetensors file."""
    if path.suffix == ".safetensors":
        state, header = read_safetensors(path)
        return checked_state(state, path.name), header
    if path.suffix not in _PICKLES:
        raise BundleError(
            f"Weights file {path.name!r} must end in '.safetensors' or one of {_PICKLES}, or be a "
            "folder in the Hugging Face layout."
        )
    loaded = read_pickle(path, hint=hint)
    for key in ("model_state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    return checked_state(loaded, path.name), {}


def _options(chosen: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in chosen.items() if key != "layers"}


def _check_architecture(encoder: SSLEncoder, architecture: str | None, name: str) -> None:
    """Refuse another network than the one that was named."""
    if architecture is None:
        return
    if isinstance(encoder, WaveEncoder):
        config = WAVE_CONFIGS.get(architecture)
        fits = config is not None and config.shape == encoder.wave_config.shape
    else:
        size = WHISPER_CONFIGS.get(architecture)
        fits = isinstance(encoder, WhisperEncoder) and encoder.whisper_config == size
    if not fits:
        raise BundleError(f"{name!r} holds another network than {architecture!r}.")
