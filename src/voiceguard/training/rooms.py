"""Simulated room impulse responses, by the image-source method of pyroomacoustics.

Allen & Berkley, "Image method for efficiently simulating small-room acoustics", JASA 1979.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from voiceguard.errors import MissingExtraError, ParameterError

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
    try:
        import pyroomacoustics  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("room simulation", "train") from error
    rng = np.random.default_rng(seed)
    if reverberation_s is None:
        return np.stack([_one_room(rng) for _ in range(count)])
    return np.stack([_one_hall(rng, reverberation_s) for _ in range(count)])


def _one_room(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    size = rng.uniform([2.0, 2.0, 2.2], [9.0, 8.0, 3.8])
    absorption = float(rng.uniform(0.12, 0.7))
    order = int(rng.integers(6, 13))
    return _response(rng, size, absorption, order, _SHORTEST_S)


def _one_hall(rng: np.random.Generator, times: tuple[float, float]) -> npt.NDArray[np.float32]:
    import pyroomacoustics as pra

    size = rng.uniform([2.0, 2.0, 2.2], [12.0, 10.0, 4.0])
    time_s = float(np.exp(rng.uniform(*np.log(times))))
    # Walls that swallow everything leave a large room its echoes for so long.
    driest_s = _SABINE * float(np.prod(size) / (2.0 * np.sum(np.prod(size) / size)))
    absorption, order = pra.inverse_sabine(max(time_s, 1.02 * driest_s), size)
    return _response(rng, size, absorption, min(order, _HIGHEST_ORDER), max(_SHORTEST_S, times[1]))


def _response(
    rng: np.random.Generator,
    size: npt.NDArray[np.float64],
    absorption: float,
    order: int,
    length_s: float,
) -> npt.NDArray[np.float32]:
    import pyroomacoustics as pra

    room = pra.ShoeBox(size, fs=SAMPLE_RATE, materials=pra.Material(absorption), max_order=order)
    room.add_source(rng.uniform(0.3, size - 0.3))
    room.add_microphone(rng.uniform(0.3, size - 0.3))
    room.compute_rir()
    taps = round(length_s * SAMPLE_RATE)
    response = np.asarray(room.rir[0][0], dtype=np.float64)
    response = response[int(np.argmax(np.abs(response))) :][:taps]
    response = np.pad(response, (0, taps - len(response)))
    unit: npt.NDArray[np.float32] = (response / np.sqrt(np.sum(response**2))).astype(np.float32)
    return unit
