"""Simulated room impulse responses, by the image-source method of pyroomacoustics.

Allen & Berkley, "Image method for efficiently simulating small-room acoustics", JASA 1979.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from voiceguard.errors import MissingExtraError, ParameterError
from voiceguard.training.draws import log_uniform

SAMPLE_RATE = 16_000
_SHORTEST_S = 0.5
_SABINE = 0.1611
"""Seconds of reverberation for a metre of volume over surface and absorption."""
_HIGHEST_ORDER = 40
"""Of reflections: what comes later is lost in the tail, and time grows with the third power."""


def room_bank(
    count: int, *, seed: int, reverberation_s: tuple[float, float] | None = None
) -> npt.NDArray[np.float32]:
    """Impulse responses of random shoebox rooms, talker near to far.

    Parameters
    ----------
    count : int
        How many.
    seed : int
        Same seed, same rooms.
    reverberation_s : tuple of float, optional
        Range of the reverberation time (60 dB, by Sabine), s, drawn evenly in its logarithm: halls
        as well as rooms. Where it is left out the walls are drawn, and at most twelve reflections
        are followed: offices and living rooms, whose tails end early.

    Returns
    -------
    np.ndarray [shape=(count, taps)]
        At 16 kHz, 0.5 s each or as long as the longest reverberation time, direct sound at sample
        0, unit energy.

    Raises
    ------
    ParameterError
        If the times are not above 0, in ascending order and at most 3 s.
    MissingExtraError
        If pyroomacoustics is absent.
    """
    if reverberation_s is not None and not 0.0 < reverberation_s[0] <= reverberation_s[1] <= 3.0:
        raise ParameterError(
            "The 'reverberation_s' parameter of room_bank must be an ascending pair of times above "
            f"0 and at most 3 s. Got {reverberation_s!r} instead."
        )
    rng = np.random.default_rng(seed)
    if reverberation_s is None:
        return np.stack([_one_room(rng) for _ in range(count)])
    return np.stack([_one_hall(rng, reverberation_s) for _ in range(count)])


def walls_for(
    reverberation_s: float, size_m: tuple[float, ...] | npt.NDArray[np.float64]
) -> tuple[float, int]:
    """Walls with which a shoebox rings so long, by Sabine's formula.

    Parameters
    ----------
    reverberation_s : float
        Seconds in which its sound falls by 60 dB.
    size_m : tuple of float
        Length, width and height.

    Returns
    -------
    tuple of float and int
        Their absorption, in [0, 1], and how many reflections are worth following.

    Raises
    ------
    MissingExtraError
        If pyroomacoustics is absent.
    """
    absorption, order = _simulator().inverse_sabine(reverberation_s, size_m)
    return float(absorption), min(int(order), _HIGHEST_ORDER)


def room_response(
    size_m: tuple[float, ...] | npt.NDArray[np.float64],
    *,
    absorption: float,
    order: int,
    talker: npt.NDArray[np.float64],
    microphone: npt.NDArray[np.float64],
    taps: int | None = None,
) -> npt.NDArray[np.float32]:
    """Impulse response of a shoebox room, direct sound at sample 0, unit energy.

    Parameters
    ----------
    size_m : tuple of float
        Length, width and height.
    absorption : float
        Of its walls, in [0, 1].
    order : int
        Most reflections followed.
    talker, microphone : np.ndarray [shape=(3,)]
        Where they are, m.
    taps : int, optional
        Cut or padded to so many; as long as it is by default.

    Returns
    -------
    np.ndarray [shape=(taps,)]
        At 16 kHz.

    Raises
    ------
    MissingExtraError
        If pyroomacoustics is absent.
    """
    pra = _simulator()
    room = pra.ShoeBox(size_m, fs=SAMPLE_RATE, materials=pra.Material(absorption), max_order=order)
    room.add_source(talker)
    room.add_microphone(microphone)
    room.compute_rir()
    response = np.asarray(room.rir[0][0], dtype=np.float64)
    response = response[int(np.argmax(np.abs(response))) :]
    if taps is not None:
        response = np.pad(response[:taps], (0, max(0, taps - len(response))))
    unit: npt.NDArray[np.float32] = (response / np.sqrt(np.sum(response**2))).astype(np.float32)
    return unit


def _simulator() -> Any:
    try:
        import pyroomacoustics
    except ImportError as error:
        raise MissingExtraError("room simulation", "train") from error
    return pyroomacoustics


def _one_room(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    size = rng.uniform([2.0, 2.0, 2.2], [9.0, 8.0, 3.8])
    absorption = float(rng.uniform(0.12, 0.7))
    order = int(rng.integers(6, 13))
    return _between(rng, size, absorption, order, _SHORTEST_S)


def _one_hall(rng: np.random.Generator, times: tuple[float, float]) -> npt.NDArray[np.float32]:
    size = rng.uniform([2.0, 2.0, 2.2], [12.0, 10.0, 4.0])
    time_s = log_uniform(rng, *times)
    # Walls that swallow everything leave a large room its echoes for so long.
    driest_s = _SABINE * float(np.prod(size) / (2.0 * np.sum(np.prod(size) / size)))
    absorption, order = walls_for(max(time_s, 1.02 * driest_s), size)
    return _between(rng, size, absorption, order, max(_SHORTEST_S, times[1]))


def _between(
    rng: np.random.Generator,
    size: npt.NDArray[np.float64],
    absorption: float,
    order: int,
    length_s: float,
) -> npt.NDArray[np.float32]:
    """The response from one random place in a room to another."""
    talker, microphone = (rng.uniform(0.3, size - 0.3) for _ in range(2))
    return room_response(
        size,
        absorption=absorption,
        order=order,
        talker=talker,
        microphone=microphone,
        taps=round(length_s * SAMPLE_RATE),
    )
