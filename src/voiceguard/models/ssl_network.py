"""A pretrained encoder and a back end as one network: waveform to logits and embedding.

The back end alone (:class:`FrameNetwork`) learns from frames that the encoder gave once; put behind
the encoder it is the network that is exported and fine-tuned. One safetensors file holds both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from voiceguard.errors import BundleError, ParameterError
from voiceguard.features.ssl import native
from voiceguard.features.ssl.contract import SSLEncoder
from voiceguard.features.ssl.mix import LayerMix
from voiceguard.features.ssl.reading import (
    check_file,
    check_fit,
    checked_state,
    read_safetensors,
)
from voiceguard.models import _BACK_ENDS, BackEnd, build_back_end
from voiceguard.models._config import PlainConfig
from voiceguard.models.graph import ModelOutput

HEADER = "voiceguard_ssl_network"
"""Key of the text, in a file of :func:`save_ssl_network`, that says what the back end is."""

_ENCODER = "front_end.encoder."
_HEAD = "head."


@dataclass(frozen=True)
class SSLNetworkConfig(PlainConfig):
    """What a network of encoder and back end consists of; plain values for ``config.json``.

    Parameters
    ----------
    architecture : str
        The encoder's.
    encoder : mapping
        The encoder's own configuration.
    layers : tuple of int
        Layers of the encoder that the back end hears.
    back_end : str
        Name of the back end, see :func:`voiceguard.models.back_ends`.
    options : mapping
        The back end's own configuration.
    """

    architecture: str
    encoder: Mapping[str, Any]
    layers: tuple[int, ...]
    back_end: str
    options: Mapping[str, Any] = field(default_factory=dict)


class EncoderFrames(nn.Module):
    """Waveform [shape=(batch, n)] to frames [shape=(batch, layers, frames, dim)].

    Parameters
    ----------
    encoder : SSLEncoder
    """

    exportable = True

    def __init__(self, encoder: SSLEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, waveform: Tensor) -> Tensor:
        """Frames of every layer that the encoder was asked for."""
        encoder = self.encoder
        frames: Tensor = encoder(waveform).layers
        # Sizes as numbers: a traced graph keeps them, and the back end's own shapes follow.
        n_frames = encoder.frames(int(waveform.shape[1]))
        return frames.reshape(-1, encoder.n_layers, n_frames, encoder.dim)


class FrameNetwork(nn.Module):
    """A back end that takes what an encoder gives, however many layers that is.

    Back ends of one layer hear a learned mix of several (each brought to mean 0 and variance 1
    first); with one layer there is nothing to mix.

    Parameters
    ----------
    n_layers : int
        Layers of the frames, at least 1.
    back_end : BackEnd
        One made for the frames' width and, where it takes layers, for their number.

    Shape
    -----
    (batch, n_layers, frames, dim) to logits (batch, 2) and embedding (batch, embedding_dim).
    """

    def __init__(self, n_layers: int, back_end: BackEnd) -> None:
        super().__init__()
        self.back_end = back_end
        mixes = n_layers > 1 and not back_end.takes_layers
        self.mix = LayerMix(n_layers) if mixes else None

    @property
    def embedding_dim(self) -> int:
        """Width of the embedding."""
        return self.back_end.embedding_dim

    def score(self, output: ModelOutput) -> Tensor:
        """Log-odds of bona fide as trained [shape=(batch,)]."""
        return self.back_end.score(output)

    def forward(self, frames: Tensor) -> ModelOutput:
        """Run the back end."""
        if self.mix is not None:
            # With the width as a number: the mix's own norm asks the tensor, which no graph can.
            frames = self.mix(F.layer_norm(frames, (self.back_end.config.dim,)))
        elif not self.back_end.takes_layers:
            frames = frames[:, 0]
        output: ModelOutput = self.back_end(frames)
        return output


def frame_network(
    name: str, *, dim: int, n_layers: int, frames: int, **options: Any
) -> FrameNetwork:
    """Make an untrained back end that fits an encoder's frames.

    Parameters
    ----------
    name : str
        One of :func:`voiceguard.models.back_ends`.
    dim, n_layers, frames : int
        Width of the encoder's frames, its layers, and its frames in a window.
    **options
        Further fields of the back end's configuration.

    Returns
    -------
    FrameNetwork

    Raises
    ------
    UnknownModelError
        If no back end has that name.
    ParameterError
        If an option is unknown or out of range.
    """
    needed: dict[str, Any] = {"dim": dim}
    if name in ("sls", "mhfa"):
        needed["layers"] = n_layers
    if name == "sls":
        needed["frames"] = frames
    return FrameNetwork(n_layers, build_back_end(name, **{**needed, **options}))


class SSLNetwork(nn.Module):
    """Encoder and back end.

    Parameters
    ----------
    encoder : SSLEncoder
    head : FrameNetwork
        Made for the encoder's layers.
    back_end : str
        Name that the head's back end was built by.

    Shape
    -----
    (batch, n) to logits (batch, 2) and embedding (batch, embedding_dim).

    Raises
    ------
    ParameterError
        If the head's configuration names another width or number of layers than the encoder has.
    """

    def __init__(self, encoder: SSLEncoder, head: FrameNetwork, *, back_end: str) -> None:
        super().__init__()
        options = head.back_end.config
        layers = encoder.n_layers
        if head.back_end.takes_layers:
            layers = getattr(options, "layers", layers)
        if options.dim != encoder.dim or layers != encoder.n_layers:
            raise ParameterError(
                f"The 'head' parameter of SSLNetwork must take {encoder.n_layers} layers of width "
                f"{encoder.dim}. Got one for {layers} layers of width {options.dim} instead."
            )
        self.front_end = EncoderFrames(encoder)
        self.head = head
        self.config = SSLNetworkConfig(
            architecture=encoder.architecture,
            encoder=encoder.config,
            layers=encoder.layers,
            back_end=back_end,
            options=options.to_dict(),
        )

    @property
    def encoder(self) -> SSLEncoder:
        """The encoder."""
        return self.front_end.encoder

    @property
    def embedding_dim(self) -> int:
        """Width of the embedding."""
        return self.head.embedding_dim

    def score(self, output: ModelOutput) -> Tensor:
        """Log-odds of bona fide as trained [shape=(batch,)]."""
        return self.head.score(output)

    def forward(self, waveform: Tensor) -> ModelOutput:
        """Run the network on a batch of waveforms of one length."""
        output: ModelOutput = self.head(self.front_end(waveform))
        return output


def save_ssl_network(
    network: SSLNetwork, path: str | Path, *, notes: Mapping[str, str] | None = None
) -> Path:
    """Write a network to one safetensors file; one that is there is replaced as a whole.

    Parameters
    ----------
    network : SSLNetwork
    path : str or Path
    notes : mapping of str to str, optional
        Kept in the file's header beside what the loader needs, such as the figures of a run.

    Returns
    -------
    Path
        The file.
    """
    return write_network(network, path, {**(notes or {}), **description(network)})


def description(network: SSLNetwork) -> dict[str, str]:
    """What a file's header says of a network, so that it can be built again."""
    encoder = network.encoder
    described = {
        "format": native.FORMAT,
        "architecture": encoder.architecture,
        "config": encoder.config,
        "layers": encoder.layers,
        "provenance": encoder.provenance,
    }
    head = {"back_end": network.config.back_end, "options": network.config.options}
    return {
        native.HEADER: json.dumps(described, sort_keys=True),
        HEADER: json.dumps(head, sort_keys=True),
    }


def write_network(network: nn.Module, path: str | Path, header: Mapping[str, str]) -> Path:
    """Write a network's weights under a header; one that is there is replaced as a whole."""
    from safetensors.torch import save

    state = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.part")
    scratch.write_bytes(save(state, dict(header)))
    scratch.replace(path)
    return path


def load_ssl_network(path: str | Path, *, sha256: str | None = None) -> SSLNetwork:
    """Read what :func:`save_ssl_network` wrote, in evaluation mode.

    Parameters
    ----------
    path : str or Path
    sha256 : str, optional
        SHA-256 of the file; compared before the file is parsed.

    Returns
    -------
    SSLNetwork

    Raises
    ------
    ModelError
        If the file cannot be read.
    IntegrityError
        If its SHA-256 is another.
    BundleError
        If it is damaged or holds something else.
    """
    path = Path(path)
    check_file(path, sha256=sha256)
    state, header = read_safetensors(path)
    return described_network(header, state, name=path.name)


def described_network(
    header: Mapping[str, str], state: Mapping[str, Tensor], *, name: str
) -> SSLNetwork:
    """Build the network that a :func:`description` describes, in evaluation mode.

    Parameters
    ----------
    header : mapping of str to str
        The description.
    state : mapping of str to Tensor
        The network's weights.
    name : str
        File that both came from, for messages.

    Raises
    ------
    BundleError
        If the header describes none, or they do not fit each other.
    """
    if HEADER not in header or native.HEADER not in header:
        raise BundleError(
            f"Weights file {name!r} holds no network of encoder and back end. Expected a file of "
            "save_ssl_network."
        )
    weights = {k.removeprefix(_ENCODER): v for k, v in state.items() if k.startswith(_ENCODER)}
    encoder = native.from_file(weights, header[native.HEADER], name=name)
    back_end, head = _empty_head(encoder, header[HEADER], name)
    learned = {k.removeprefix(_HEAD): v for k, v in state.items() if k.startswith(_HEAD)}
    learned = checked_state(learned, name)
    check_fit(head.state_dict(), learned, name=name)
    head.load_state_dict(learned, strict=True)
    return SSLNetwork(encoder, head, back_end=back_end).eval()


def _empty_head(encoder: SSLEncoder, text: str, file: str) -> tuple[str, FrameNetwork]:
    """Name and untrained back end that a header describes."""
    try:
        plain = json.loads(text)
        name = str(plain["back_end"])
        module, kind, config, _ = _BACK_ENDS[name]
        home = import_module(f"voiceguard.models.{module}")
        options = getattr(home, config).from_dict(plain["options"])
        back_end: BackEnd = getattr(home, kind)(options)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"The header of weights file {file!r} is damaged: {error}.") from error
    return name, FrameNetwork(encoder.n_layers, back_end)
