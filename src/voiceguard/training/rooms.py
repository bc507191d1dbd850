"""Simulated room impulse responses, by the image-source method of pyroomacoustics.

Allen & Berkley, "Image method for efficiently simulating small-room acoustics", JASA 1979.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from voiceguard.errors import MissingExtraError

SAMPLE_RATE = 16_000
_LENGTH = 8_000


def room_bank(count: int, *, seed: int) -> npt.NDArray[np.float32]:
    """Impulse responses of random shoebox rooms, talker near to far.

    Parameters
    ----------
    count : int
        How many.
    seed : int
        Same seed, same rooms.

    Returns
    -------
    np.ndarray [shape=(count, 8000)]
        0.5 s at 16 kHz each, direct sound at sample 0, unit energy.

    Raises
    ------
    MissingExtraError
        If pyroomacoustics is absent.
    """
    rng = np.random.default_rng(seed)
    return np.stack([_one_room(rng) for _ in range(count)])


def _one_room(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    try:
        import pyroomacoustics as pra
    except ImportError as error:
        raise MissingExtraError("room simulation", "train") from error
    size = rng.uniform([2.0, 2.0, 2.2], [9.0, 8.0, 3.8])
    absorption = float(rng.uniform(0.12, 0.7))
    room = pra.ShoeBox(
        size, fs=SAMPLE_RATE, materials=pra.Material(absorption), max_order=int(rng.integers(6, 13))
    )
    room.add_source(rng.uniform(0.3, size - 0.3))
    room.add_microphone(rng.uniform(0.3, size - 0.3))
    room.compute_rir()
    response = np.asarray(room.rir[0][0], dtype=np.float64)
    response = response[int(np.argmax(np.abs(response))) :][:_LENGTH]
    response = np.pad(response, (0, _LENGTH - len(response)))
    unit: npt.NDArray[np.float32] = (response / np.sqrt(np.sum(response**2))).astype(np.float32)
    return unit
