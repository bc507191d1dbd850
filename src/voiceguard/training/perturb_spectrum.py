"""Masks on features in training: SpecAugment, and runs of sinc filters.

Park et al., "SpecAugment: a simple data augmentation method for automatic speech recognition",
Interspeech 2019 (arXiv 1904.08779). Random numbers come from torch's own generator, which a
checkpoint holds, or from one that is given.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from voiceguard.errors import ParameterError
from voiceguard.features.sinc import SincFilterbank
from voiceguard.training.perturb_options import check_count, is_number, refuse


class SpecAugment(nn.Module):
    """Time and frequency masks, drawn for each example anew; nothing outside training.

    A mask's width is uniform from 0 to the largest, its place uniform over where it fits. Channels
    of an example share their masks.

    Parameters
    ----------
    time_masks, frequency_masks : int
        How many of each.
    time_width, frequency_width : int
        Largest width of one, in frames and in coefficients (``T`` and ``F`` in the paper).
    time_share : float
        Largest width of a time mask as a share of the frames (``p`` in the paper), in [0, 1].
    fill : float
        What a masked cell becomes.

    Raises
    ------
    ParameterError
        If an option is out of range.

    Shape
    -----
    (batch, coefficients, frames) or (batch, channels, coefficients, frames) to the same.

    Examples
    --------
    >>> augment = SpecAugment(time_width=20, frequency_width=8)
    >>> augment(torch.ones(2, 60, 400)).shape
    torch.Size([2, 60, 400])
    """

    name = "SpecAugment"

    def __init__(
        self,
        *,
        time_masks: int = 2,
        time_width: int = 40,
        frequency_masks: int = 2,
        frequency_width: int = 8,
        time_share: float = 0.2,
        fill: float = 0.0,
    ) -> None:
        super().__init__()
        self.time_masks = time_masks
        self.time_width = time_width
        self.frequency_masks = frequency_masks
        self.frequency_width = frequency_width
        self.time_share = time_share
        self.fill = fill
        for option in ("time_masks", "time_width", "frequency_masks", "frequency_width"):
            check_count(self, option, minimum=0)
        if not is_number(time_share) or not 0.0 <= time_share <= 1.0:
            raise refuse(self, "time_share", "a share in [0, 1]")
        if not is_number(fill):
            raise refuse(self, "fill", "a finite number")

    def forward(self, features: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Mask a batch.

        Parameters
        ----------
        features : Tensor [shape=(batch, [channels,] coefficients, frames)]
            It is not changed.
        generator : torch.Generator, optional
            Where the masks come from; torch's own without. Always drawn on the generator's device
            (the CPU without), so that a seed means the same masks everywhere.

        Returns
        -------
        Tensor
            Of the same shape; the input itself outside training.

        Raises
        ------
        ParameterError
            If the features have neither three nor four dimensions.
        """
        if features.ndim not in (3, 4):
            raise ParameterError(
                "The 'features' parameter of SpecAugment must have shape (batch, coefficients, "
                "frames) or (batch, channels, coefficients, frames). "
                f"Got {tuple(features.shape)} instead."
            )
        if not self.training:
            return features
        batch, (height, frames) = features.shape[0], features.shape[-2:]
        widest = min(self.time_width, int(self.time_share * frames))
        over_time = _hidden(batch, frames, self.time_masks, widest, generator)
        over_frequency = _hidden(
            batch, height, self.frequency_masks, min(self.frequency_width, height), generator
        )
        hidden = over_time.unsqueeze(1) | over_frequency.unsqueeze(2)
        if features.ndim == 4:
            hidden = hidden.unsqueeze(1)
        return features.masked_fill(hidden.to(features.device), self.fill)


def _hidden(
    batch: int, size: int, masks: int, widest: int, generator: torch.Generator | None
) -> Tensor:
    """Which of `size` cells are masked [shape=(batch, size)], bool."""
    device = "cpu" if generator is None else generator.device
    drawn = torch.rand(2, batch, masks, 1, generator=generator, device=device)
    width = (drawn[0] * (widest + 1)).long()
    start = (drawn[1] * (size - width + 1)).long()
    cells = torch.arange(size, device=device)
    return ((cells >= start) & (cells < start + width)).any(dim=1)


def mask_features(model: nn.Module, augment: SpecAugment) -> None:
    """Put `augment` behind a model's front end, for training.

    It joins the model as ``model.spec_augment`` and follows its ``train()`` and ``eval()``; it has
    no parameters, so state dicts stay as they are. Outside training, and in an exported graph, it
    does nothing.

    Parameters
    ----------
    model : nn.Module
        With a ``front_end`` of features by coefficient and frame, as the models of
        :mod:`voiceguard.models` have.
    augment : SpecAugment

    Raises
    ------
    ParameterError
        If the model has no ``front_end``, or has been given masks before.
    """
    front_end = getattr(model, "front_end", None)
    if not isinstance(front_end, nn.Module) or hasattr(model, "spec_augment"):
        raise ParameterError(
            "The 'model' parameter of mask_features must have a 'front_end' module and no masks "
            f"yet. Got {type(model).__name__} instead."
        )
    model.add_module("spec_augment", augment)
    front_end.register_forward_hook(_Hook(augment))


class _Hook:
    """Mask what a front end gives; as an object, so that copies of a model can be made."""

    def __init__(self, augment: SpecAugment) -> None:
        self.augment = augment

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        masked: Tensor = self.augment(output)
        return masked


def mask_sinc_bands(model: nn.Module, *, widest: int = 19) -> int:
    """Let a model's sinc filterbanks hide a random run of neighbouring filters in training.

    The mask itself is :class:`voiceguard.features.sinc.SincFilterbank`'s; this sets it on models
    that are made without (RawNet2), or changes or ends (0) it on those that have one.

    Parameters
    ----------
    model : nn.Module
        With at least one :class:`~voiceguard.features.sinc.SincFilterbank`.
    widest : int
        Most filters hidden at a time (published for AASIST: 19); each number up to it alike often.

    Returns
    -------
    int
        Filterbanks found.

    Raises
    ------
    ParameterError
        If the model has none, or `widest` is not below their number of filters.
    """
    banks = [module for module in model.modules() if isinstance(module, SincFilterbank)]
    fewest = min((bank.coefficients for bank in banks), default=0)
    if not banks:
        raise ParameterError(
            "The 'model' parameter of mask_sinc_bands must hold a SincFilterbank. "
            f"Got {type(model).__name__} instead."
        )
    if isinstance(widest, bool) or not isinstance(widest, int) or not 0 <= widest < fewest:
        raise ParameterError(
            f"The 'widest' parameter of mask_sinc_bands must be an int in [0, {fewest - 1}]. "
            f"Got {widest!r} instead."
        )
    for bank in banks:
        bank.max_mask = widest + 1 if widest else 0
    return len(banks)
