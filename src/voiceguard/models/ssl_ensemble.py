"""Several networks, on pretrained encoders or on spectra, that judge one waveform together.

Encoders that learned other tasks err on other voices: the sum of their log-odds errs less than each
(Dietterich, "Ensemble methods in machine learning", 2000).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from voiceguard.errors import BundleError, ParameterError
from voiceguard.features._base import FrontEnd
from voiceguard.features.ssl.reading import (
    check_file,
    check_fit,
    checked_state,
    read_safetensors,
)
from voiceguard.models._config import PlainConfig
from voiceguard.models.graph import BONAFIDE_INDEX, SPOOF_INDEX, ModelOutput
from voiceguard.models.spectral_aasist import SpectralAASIST, SpectralAASISTConfig
from voiceguard.models.ssl_network import (
    EncoderFrames,
    SSLNetwork,
    described_network,
    description,
    write_network,
)

HEADER = "voiceguard_ssl_ensemble"
"""Key of the text, in a file of :func:`save_ssl_ensemble`, that says what the members are."""

PEAK = 0.5
"""Each waveform is brought to this peak, so that its level says nothing."""

SPECTRAL = SpectralAASIST.__name__
"""What the ``network`` of a member is named that is a spectral AASIST; others name none."""

Member: TypeAlias = SSLNetwork | SpectralAASIST
"""What an ensemble may hold."""


def at_peak(waveform: Tensor) -> Tensor:
    """Waveforms [shape=(batch, n)] at the level that members hear, :data:`PEAK`."""
    peak = waveform.abs().amax(dim=1, keepdim=True) + 1e-8
    return waveform * (PEAK / peak)


@dataclass(frozen=True)
class SSLEnsembleConfig(PlainConfig):
    """What an ensemble consists of; plain values for ``config.json``.

    Parameters
    ----------
    members : tuple of mapping
        The configuration of each network; that of a spectral AASIST also says so under
        ``network``.
    weights : tuple of float
        What the logits of each count.
    """

    members: tuple[Mapping[str, Any], ...]
    weights: tuple[float, ...]


class SSLEnsemble(nn.Module):
    """Weighted sum of the logits of several networks, which hear each waveform at one level.

    Parameters
    ----------
    members : sequence of SSLNetwork or SpectralAASIST
        At least one.
    weights : sequence of float, optional
        What the logits of each count, finite and above 0; 1 by default.

    Shape
    -----
    (batch, n) to logits (batch, 2) and embedding (batch, embedding_dim), those of the members side
    by side.

    Raises
    ------
    ParameterError
        If there is no member, or the weights do not fit.
    """

    def __init__(self, members: Sequence[Member], weights: Sequence[float] | None = None) -> None:
        super().__init__()
        shares = tuple(1.0 for _ in members) if weights is None else tuple(map(float, weights))
        if not members or len(shares) != len(members):
            raise ParameterError(
                "SSLEnsemble must have at least one member and a weight for each. "
                f"Got {len(members)} members and {len(shares)} weights instead."
            )
        if not all(math.isfinite(share) and share > 0 for share in shares):
            raise ParameterError(
                "The 'weights' parameter of SSLEnsemble must hold finite numbers above 0. "
                f"Got {shares!r} instead."
            )
        self.members = nn.ModuleList(members)
        self.weights = shares
        self.config = SSLEnsembleConfig(
            members=tuple(_configuration(member) for member in members), weights=shares
        )

    @property
    def networks(self) -> tuple[Member, ...]:
        """The members."""
        return tuple(m for m in self.members if isinstance(m, SSLNetwork | SpectralAASIST))

    @property
    def front_end(self) -> EncoderFrames | FrontEnd:
        """Where the first member begins."""
        return self.networks[0].front_end

    @property
    def embedding_dim(self) -> int:
        """Width of the embedding."""
        return sum(member.embedding_dim for member in self.networks)

    def score(self, output: ModelOutput) -> Tensor:
        """Log-odds of bona fide as trained, whatever members score by alone [shape=(batch,)]."""
        return output.logits[:, BONAFIDE_INDEX] - output.logits[:, SPOOF_INDEX]

    def forward(self, waveform: Tensor) -> ModelOutput:
        """Run every member on a batch of waveforms of one length."""
        waveform = at_peak(waveform)
        outputs: list[ModelOutput] = [member(waveform) for member in self.members]
        weighted = [
            share * output.logits for share, output in zip(self.weights, outputs, strict=True)
        ]
        logits = torch.stack(weighted).sum(0)
        return ModelOutput(logits, torch.cat([output.embedding for output in outputs], dim=1))


def _configuration(member: Member) -> dict[str, Any]:
    plain = member.config.to_dict()
    return {**plain, "network": SPECTRAL} if isinstance(member, SpectralAASIST) else plain


def save_ssl_ensemble(
    ensemble: SSLEnsemble, path: str | Path, *, notes: Mapping[str, str] | None = None
) -> Path:
    """Write an ensemble to one safetensors file; one that is there is replaced as a whole.

    Parameters
    ----------
    ensemble : SSLEnsemble
    path : str or Path
    notes : mapping of str to str, optional
        Kept in the file's header beside what the loader needs.

    Returns
    -------
    Path
        The file.
    """
    described = {
        "members": [_described(member) for member in ensemble.networks],
        "weights": ensemble.weights,
    }
    return write_network(
        ensemble, path, {**(notes or {}), HEADER: json.dumps(described, sort_keys=True)}
    )


def load_ssl_ensemble(path: str | Path, *, sha256: str | None = None) -> SSLEnsemble:
    """Read what :func:`save_ssl_ensemble` wrote, in evaluation mode.

    Parameters
    ----------
    path : str or Path
    sha256 : str, optional
        SHA-256 of the file; compared before the file is parsed.

    Returns
    -------
    SSLEnsemble

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
    if HEADER not in header:
        raise BundleError(
            f"Weights file {path.name!r} holds no ensemble. Expected a file of save_ssl_ensemble."
        )
    try:
        described = json.loads(header[HEADER])
        texts = [dict(member) for member in described["members"]]
        weights = [float(share) for share in described["weights"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(
            f"The header of weights file {path.name!r} is damaged: {error}."
        ) from error
    members: list[Member] = []
    for number, text in enumerate(texts):
        prefix = f"members.{number}."
        own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        spectral = text.get("network") == SPECTRAL
        read = _described_spectral if spectral else described_network
        members.append(read(text, own, name=path.name))
    try:
        return SSLEnsemble(members, weights).eval()
    except ParameterError as error:
        raise BundleError(
            f"The header of weights file {path.name!r} is damaged: {error}"
        ) from error


def _described(member: Member) -> dict[str, str]:
    """What the header says of a member."""
    if isinstance(member, SpectralAASIST):
        return {"network": SPECTRAL, "config": json.dumps(member.config.to_dict(), sort_keys=True)}
    return description(member)


def _described_spectral(
    header: Mapping[str, str], state: Mapping[str, Tensor], *, name: str
) -> SpectralAASIST:
    """The spectral AASIST that :func:`_described` describes, in evaluation mode."""
    try:
        network = SpectralAASIST(SpectralAASISTConfig.from_dict(json.loads(header["config"])))
    # Sizes of the wrong type or beyond all memory surface as whatever torch stumbled over.
    except (ValueError, LookupError, TypeError, RuntimeError, AttributeError) as error:
        raise BundleError(f"The header of weights file {name!r} is damaged: {error}.") from error
    learned = checked_state(state, name)
    check_fit(network.state_dict(), learned, name=name)
    network.load_state_dict(learned)
    return network.eval()
