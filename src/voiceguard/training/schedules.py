"""Learning rates over a training: a schedule is a frozen value with ``rate(step)``.

A step is one step of the optimiser, counted from the start of the whole training, so that a resumed
run needs no state of a schedule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

from voiceguard.errors import ParameterError


class RateSchedule(Protocol):
    """What :class:`~voiceguard.training.loop.ScheduledBrain` follows."""

    def rate(self, step: int) -> float:
        """Learning rate at a step counted from the start of the training."""
        ...


@dataclass(frozen=True)
class Schedule:
    """Warm-up, a plateau, a cosine down to a hundredth.

    Parameters
    ----------
    peak : float
        Learning rate of the plateau.
    total_steps : int
        Steps of the whole training.
    warmup_steps : int
        Steps of the linear rise.
    decay_share : float
        Share of the training, at its end, that the cosine takes.
    """

    peak: float
    total_steps: int
    warmup_steps: int = 200
    decay_share: float = 0.4

    def rate(self, step: int) -> float:
        """Learning rate at a step counted from the start of the training."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        start = self.total_steps * (1.0 - self.decay_share)
        if step <= start:
            return self.peak
        progress = min(1.0, (step - start) / max(1.0, self.total_steps - start))
        return self.peak * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * progress)))


@dataclass(frozen=True)
class Constant:
    """One learning rate throughout, as RawNet2 and RawGAT-ST were trained.

    Parameters
    ----------
    peak : float
        The learning rate.
    """

    peak: float

    def rate(self, step: int) -> float:
        """Learning rate, whatever the step."""
        return self.peak


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from the first step to the last, as AASIST was trained.

    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017,
    without restarts.

    Parameters
    ----------
    peak, floor : float
        Learning rate at the first step and after the last; floor <= peak.
    total_steps : int
        Steps of the whole training, >= 1.
    """

    peak: float
    floor: float
    total_steps: int

    def __post_init__(self) -> None:
        if not 0 <= self.floor <= self.peak or self.total_steps < 1:
            raise ParameterError(
                "Cosine must have 0 <= floor <= peak and total_steps >= 1. Got "
                f"floor={self.floor!r}, peak={self.peak!r}, total_steps={self.total_steps!r}."
            )

    def rate(self, step: int) -> float:
        """Learning rate at a step counted from the start of the training."""
        progress = min(step, self.total_steps) / self.total_steps
        return self.floor + (self.peak - self.floor) * 0.5 * (1.0 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class Decay:
    """Multiplied by a factor every so many epochs, as LCNN and ResNet18 were trained.

    Parameters
    ----------
    peak : float
        Learning rate of the first epochs.
    steps_per_epoch : int
        Steps of an epoch, >= 1.
    every : int
        Epochs between two cuts, >= 1.
    factor : float
        What the rate is multiplied by, in (0, 1].
    """

    peak: float
    steps_per_epoch: int
    every: int = 10
    factor: float = 0.5

    def __post_init__(self) -> None:
        if self.steps_per_epoch < 1 or self.every < 1 or not 0 < self.factor <= 1:
            raise ParameterError(
                "Decay must have steps_per_epoch >= 1, every >= 1 and a factor in (0, 1]. Got "
                f"{self.steps_per_epoch!r}, {self.every!r}, {self.factor!r} instead."
            )

    def rate(self, step: int) -> float:
        """Learning rate at a step counted from the start of the training."""
        return float(self.peak * self.factor ** (step // (self.steps_per_epoch * self.every)))


def schedules() -> tuple[str, ...]:
    """Names that :func:`build_schedule` knows."""
    return ("constant", "cosine", "decay", "plateau")


def build_schedule(
    name: str, *, peak: float, total_steps: int, steps_per_epoch: int, **options: Any
) -> RateSchedule:
    """Make a schedule by name.

    Parameters
    ----------
    name : str
        ``constant``; ``cosine`` (option ``floor``); ``decay`` (options ``every``, ``factor``);
        ``plateau``, which is :class:`Schedule` (options ``warmup_steps``, ``decay_share``).
    peak : float
        Largest learning rate.
    total_steps, steps_per_epoch : int
        Steps of the optimiser.
    **options
        Further fields of the class.

    Returns
    -------
    RateSchedule

    Raises
    ------
    ParameterError
        If the name or an option is unknown, or an option is out of range.
    """
    try:
        if name == "constant":
            return Constant(peak, **options)
        if name == "cosine":
            return Cosine(peak, total_steps=total_steps, **options)
        if name == "decay":
            return Decay(peak, steps_per_epoch, **options)
        if name == "plateau":
            return Schedule(peak, total_steps, **options)
    except TypeError as error:
        raise ParameterError(f"Schedule {name!r} does not take these options: {error}.") from error
    raise ParameterError(
        f"The 'name' parameter of build_schedule must be one of {list(schedules())}. "
        f"Got {name!r} instead."
    )
