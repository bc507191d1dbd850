"""Perturbations of waveforms, built from plain YAML.

A recipe lists what may happen to a training clip; :func:`build_pipeline` makes a function of it:

>>> import numpy as np
>>> pipeline = build_pipeline([
...     {"name": "trim_silence", "probability": 0.5, "threshold_db": [30, 50]},
...     {"name": "one_of", "weights": [2, 1], "choices": [
...         {"name": "rawboost", "algorithm": 5},
...         {"name": "sequence", "steps": [{"name": "speed", "factors": [0.9, 1.1]}]},
...     ]},
...     {"name": "noise", "probability": 0.3, "snr_db": [10, 30]},
... ])
>>> pipeline(np.ones(16_000, np.float32), np.random.default_rng(0)).dtype
dtype('float32')

Everything follows from the clip and the generator. A range may be a pair (drawn uniformly) or one
number. The length may change (speed, trimming); the crop comes afterwards.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from voiceguard.errors import ParameterError
from voiceguard.training.perturb_channel import BandLimit, Codec, Room, Telephone
from voiceguard.training.perturb_noise import Noise
from voiceguard.training.perturb_options import is_number, refuse
from voiceguard.training.perturb_wave import Clip, Gain, Level, Speed, TrimSilence
from voiceguard.training.rawboost import RawBoost, RawBoostConfig

Samples = npt.NDArray[np.float32]
Perturbation = Callable[[Samples, np.random.Generator], Samples]


@dataclass(frozen=True)
class Step:
    """A perturbation and how often it happens.

    Parameters
    ----------
    name : str
        As in the YAML.
    probability : float
        In [0, 1].
    perturbation : callable
        (float32 [shape=(n,)] at 16 kHz, generator) -> float32 [shape=(m,)].
    """

    name: str
    probability: float
    perturbation: Perturbation

    def __post_init__(self) -> None:
        if not is_number(self.probability) or not 0.0 <= self.probability <= 1.0:
            raise refuse(self, "probability", "a probability in [0, 1]")


@dataclass(frozen=True)
class Pipeline:
    """Steps one after the other, each with its own probability.

    Parameters
    ----------
    steps : tuple of Step
        None of them: the clip as it is.
    """

    steps: tuple[Step, ...]

    def __call__(self, x: Samples, rng: np.random.Generator) -> Samples:
        """Perturb a clip.

        Parameters
        ----------
        x : np.ndarray [shape=(n,)]
            16 kHz, full scale 1. It is not changed. Nothing happens to an empty one.
        rng : np.random.Generator
            All randomness comes from here.

        Returns
        -------
        np.ndarray [shape=(m,)]
            float32; m >= 1 where n >= 1.

        Raises
        ------
        ParameterError
            If `x` is not one-dimensional and floating.
        """
        if not isinstance(x, np.ndarray) or x.ndim != 1 or x.dtype.kind != "f":
            given = f"{x.dtype}, {x.shape}" if isinstance(x, np.ndarray) else type(x).__name__
            raise ParameterError(
                "The 'x' parameter of Pipeline must be a floating array of shape (n,). "
                f"Got {given} instead."
            )
        y: Samples = x.astype(np.float32)
        for step in self.steps:
            # Drawn at every step, certain or not, so that a probability does not shift the rest.
            if rng.random() < step.probability and len(y):
                y = step.perturbation(y, rng)
        return np.ascontiguousarray(y, dtype=np.float32)


@dataclass(frozen=True)
class OneOf:
    """One of several perturbations.

    Parameters
    ----------
    choices : tuple of callable
    weights : tuple of float
        How often each, relative to the others; empty: all alike.
    """

    name: ClassVar[str] = "one_of"
    choices: tuple[Perturbation, ...]
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.choices:
            raise refuse(self, "choices", "a list of at least one perturbation")
        fits = len(self.weights) == len(self.choices) and all(
            is_number(weight) and weight >= 0 for weight in self.weights
        )
        if self.weights and not (fits and sum(self.weights) > 0):
            raise refuse(self, "weights", "a number >= 0 for each choice, not all of them 0")

    def __call__(self, x: Samples, rng: np.random.Generator) -> Samples:
        """Draw one and apply it."""
        weights = np.array(self.weights or [1.0] * len(self.choices))
        return self.choices[rng.choice(len(self.choices), p=weights / weights.sum())](x, rng)


def perturbations() -> dict[str, tuple[str, ...]]:
    """The names that :func:`build_pipeline` knows, each with its options.

    Returns
    -------
    dict of str to tuple of str
        `probability` comes on top.
    """
    return {name: tuple(kind.defaults) for name, kind in _KINDS.items()}


def build_pipeline(specs: Sequence[Mapping[str, Any]]) -> Pipeline:
    """Make a pipeline from what a YAML file holds.

    Parameters
    ----------
    specs : sequence of mapping
        Each with a ``name`` of :func:`perturbations`, at will a ``probability`` (1.0) and options.
        ``sequence`` takes ``steps``, ``one_of`` takes ``choices`` and ``weights``; both nest.

    Returns
    -------
    Pipeline

    Raises
    ------
    ParameterError
        If a name or an option is unknown, or a value out of range; it says what is known.
    MissingExtraError
        If a perturbation needs a package that is absent.
    """
    if isinstance(specs, (str, Mapping)) or not isinstance(specs, Sequence):
        raise ParameterError(
            "The 'specs' parameter of build_pipeline must be a list of mappings with a 'name'. "
            f"Got {specs!r} instead."
        )
    return Pipeline(tuple(_step(spec) for spec in specs))


def _step(spec: Mapping[str, Any]) -> Step:
    name = spec.get("name") if isinstance(spec, Mapping) else spec
    if not isinstance(spec, Mapping) or name not in _KINDS:
        raise ParameterError(
            f"The 'name' parameter of a perturbation must be one of {sorted(_KINDS)}. "
            f"Got {name!r} instead."
        )
    options = {key: value for key, value in spec.items() if key not in ("name", "probability")}
    return Step(str(name), spec.get("probability", 1.0), _KINDS[str(name)].build(options))


@dataclass(frozen=True)
class _Kind:
    """How one name is built, and its options with their defaults."""

    name: str
    make: Callable[..., Perturbation]
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def build(self, options: Mapping[str, Any]) -> Perturbation:
        unknown = sorted(str(key) for key in options if key not in self.defaults)
        if unknown:
            raise ParameterError(
                f"The options of {self.name} must be among {sorted(self.defaults)}. "
                f"Got {', '.join(unknown)} instead."
            )
        fitted = {key: _fitted(value, self.defaults[key]) for key, value in options.items()}
        try:
            return self.make(**fitted)
        except ParameterError:
            raise
        except (TypeError, ValueError) as error:
            raise ParameterError(f"{self.name} does not take these options: {error}.") from error


def _fitted(value: Any, default: Any) -> Any:
    """A YAML value as its option's type: lists become tuples, one number a range of no width."""
    is_range = isinstance(default, tuple) and len(default) == 2 and all(map(is_number, default))
    if is_range and is_number(value):
        return (value, value)
    return _frozen(value)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def _rawboost(*, algorithm: int = 5, **config: Any) -> Perturbation:
    return RawBoost(algorithm, RawBoostConfig(**config))


def _sequence(*, steps: Sequence[Mapping[str, Any]]) -> Perturbation:
    return build_pipeline(steps)


def _one_of(
    *, choices: Sequence[Mapping[str, Any]], weights: tuple[float, ...] = ()
) -> Perturbation:
    # A choice keeps its own probability: a pipeline of one step.
    return OneOf(tuple(Pipeline((step,)) for step in build_pipeline(choices).steps), weights)


def _of_class(kind: Any) -> _Kind:
    return _Kind(kind.name, kind, {f.name: f.default for f in dataclasses.fields(kind) if f.init})


def _of_rawboost() -> _Kind:
    ranges = {f.name: f.default for f in dataclasses.fields(RawBoostConfig)}
    # The pipeline's rate is fixed.
    del ranges["sample_rate"]
    return _Kind("rawboost", _rawboost, {"algorithm": 5} | ranges)


_KINDS: dict[str, _Kind] = {
    kind.name: kind
    for kind in (
        _of_rawboost(),
        *map(_of_class, (BandLimit, Clip, Codec, Gain, Level, Noise)),
        *map(_of_class, (Room, Speed, Telephone, TrimSilence)),
        _Kind("sequence", _sequence, {"steps": None}),
        _Kind("one_of", _one_of, {"choices": None, "weights": None}),
    )
}
