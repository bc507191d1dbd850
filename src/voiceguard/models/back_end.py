"""What every back end on a self-supervised encoder shares: input, padding, published weights.

A back end takes the frames that an encoder gives for a batch of waveforms: of one layer
[shape=(batch, frames, dim)], or of all layers [shape=(batch, layers, frames, dim)]. Waveforms of
different length give different numbers of frames; `lengths` says how many of a row are real, and
the rest changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from voiceguard.errors import ModelError, ParameterError
from voiceguard.features._state_fit import misshapen
from voiceguard.models.graph import BONAFIDE_INDEX, SPOOF_INDEX, ModelOutput

_ENCODER = "ssl_model.model."
_PARALLEL = "module."


class FrameBackEnd(nn.Module):
    """Base of back ends: checks of the input and the score.

    A subclass sets :attr:`config` and writes ``_run`` from checked features to a
    :class:`~voiceguard.models.graph.ModelOutput`.

    In evaluation a row's output depends on its own real frames alone. In training batch norms take
    their statistics over padded frames too; cut a batch to one length where that matters.
    """

    takes_layers: bool = False
    """Whether the features are those of all layers."""

    min_frames: ClassVar[int] = 1
    """Fewest real frames of a row."""

    published_prefix: ClassVar[str] = ""
    """What stands before this module's names in published checkpoints."""

    config: Any
    """The sizes: ``dim``, the width of a frame, and ``layers`` where all of them are taken."""

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> ModelOutput:
        """Run the back end.

        Parameters
        ----------
        features : Tensor [shape=(batch, frames, dim) or (batch, layers, frames, dim)]
            Of one layer, or of all where :attr:`takes_layers`.
        lengths : Tensor [shape=(batch,)], optional
            Real frames of each row, integers.

        Returns
        -------
        ModelOutput

        Raises
        ------
        ParameterError
            If the features or the lengths have the wrong shape.
        """
        layers = self.config.layers if self.takes_layers else None
        check_features(
            self,
            features,
            lengths,
            dim=self.config.dim,
            layers=layers,
            min_frames=self.min_frames,
        )
        return self._run(features, lengths)

    def _run(self, features: Tensor, lengths: Tensor | None) -> ModelOutput:
        raise NotImplementedError

    def score(self, output: ModelOutput) -> Tensor:
        """Log-odds of bona fide as trained, logit 1 - logit 0 [shape=(batch,)]."""
        return output.logits[:, BONAFIDE_INDEX] - output.logits[:, SPOOF_INDEX]


def check_features(
    owner: object,
    features: Tensor,
    lengths: Tensor | None,
    *,
    dim: int,
    layers: int | None = None,
    min_frames: int = 1,
) -> None:
    """Refuse features that a back end cannot take.

    Parameters
    ----------
    owner : object
        The back end, for the message.
    features : Tensor [shape=(batch, frames, dim) or (batch, layers, frames, dim)]
    lengths : Tensor [shape=(batch,)], optional
        Real frames of each row, integers.
    dim : int
        Width of a frame.
    layers : int, optional
        Layers expected; None for features of one layer.
    min_frames : int
        Fewest frames of a row.

    Raises
    ------
    ParameterError
        If a shape or a length is wrong.
    """
    name = type(owner).__name__
    wanted = f"(batch, {'' if layers is None else f'{layers}, '}frames >= {min_frames}, {dim})"
    fits = features.ndim == (3 if layers is None else 4) and features.shape[-1] == dim
    if not fits or features.shape[-2] < min_frames or layers not in (None, features.shape[1]):
        raise ParameterError(
            f"The 'features' parameter of {name} must have shape {wanted}. "
            f"Got {tuple(features.shape)} instead."
        )
    if lengths is not None:
        _check_lengths(name, lengths, features, min_frames)


def _check_lengths(name: str, lengths: Tensor, features: Tensor, min_frames: int) -> None:
    frames = features.shape[-2]
    whole = lengths.shape == features.shape[:1] and not lengths.is_floating_point()
    if not whole or bool((lengths < min_frames).any()) or bool((lengths > frames).any()):
        raise ParameterError(
            f"The 'lengths' parameter of {name} must hold {len(features)} integers from "
            f"{min_frames} to {frames}. Got {lengths.tolist()} instead."
        )


def real_frames(features: Tensor, lengths: Tensor | None) -> Tensor | None:
    """Which frames are real, bool [shape=(batch, frames)]; None where all are."""
    if lengths is None:
        return None
    index = torch.arange(features.shape[-2], device=features.device)
    return index < lengths.to(features.device).unsqueeze(1)


def frame_mean(frames: Tensor, real: Tensor | None) -> Tensor:
    """Mean over the real frames: (batch, frames, d) to (batch, d)."""
    if real is None:
        return frames.mean(dim=1)
    kept = torch.where(real.unsqueeze(2), frames, 0.0)
    return kept.sum(dim=1) / real.sum(dim=1, keepdim=True)


def split_checkpoint(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Take a published checkpoint of encoder and back end apart.

    The checkpoints of SSL-AASIST and of the works that built on it keep the encoder under
    ``ssl_model.model.``, in fairseq's names; those that were trained on several GPUs put
    ``module.`` before every name.

    Parameters
    ----------
    weights : mapping of str to Tensor
        The state dict.

    Returns
    -------
    encoder, back_end : dict of str to Tensor
        With the prefixes taken off; the encoder's is empty where the checkpoint has none.
    """
    bare = {key.removeprefix(_PARALLEL): value for key, value in weights.items()}
    encoder = {
        key.removeprefix(_ENCODER): value for key, value in bare.items() if key.startswith(_ENCODER)
    }
    return encoder, {k: v for k, v in bare.items() if not k.startswith(_ENCODER)}


def load_published(back_end: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Load the back end's part of a published checkpoint, strictly.

    Its columns are those of :class:`~voiceguard.models.graph.ModelOutput` (0 spoof, 1 bona fide),
    so nothing is swapped.

    Parameters
    ----------
    back_end : Module
        An SSL-AASIST, SLS or Nes2Net; changed in place.
    weights : mapping of str to Tensor
        The state dict of encoder and back end, or of the back end alone.

    Returns
    -------
    dict of str to Tensor
        The encoder's part, in fairseq's names.

    Raises
    ------
    ModelError
        If a tensor is missing, unexpected or of another shape; the back end is left as it was.
    """
    encoder, rest = split_checkpoint(weights)
    prefix = getattr(back_end, "published_prefix", "")
    named = {key.removeprefix(prefix): value for key, value in rest.items()}
    expected = back_end.state_dict()
    wrong = sorted(expected.keys() ^ named.keys()) or misshapen(expected, named)
    if wrong:
        raise ModelError(
            f"The checkpoint does not fit {type(back_end).__name__}: {len(wrong)} tensors are "
            f"missing, unexpected or of another shape, the first {', '.join(wrong[:5])}."
        )
    back_end.load_state_dict(named, strict=True)
    return encoder
