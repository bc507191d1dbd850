"""Methods that keep a magnitude and invent the phase, from the STFT or from mel bands."""

from __future__ import annotations

import numpy as np

from voiceguard.training.draws import log_uniform

from .spectra import (
    Samples,
    Transform,
    centred_phase,
    draw_transform,
    griffin_lim,
    mel_filters,
    minimum_phase,
    random_phase,
    smooth,
    turned,
)

_FRAMES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    # A pulse a frame, at 125 Hz and more, as low as a voice; and no later than a few ms.
    "zero": ((256, 512), (4,)),
    "minimum": ((256,), (2, 4)),
}


def griffin_lim_vocoder(x: Samples, rng: np.random.Generator) -> Samples:
    """The clip's own magnitude, its phase by 4 to 40 rounds of (fast) Griffin-Lim."""
    transform = draw_transform(rng, sizes=(400, 512, 800, 1024), overlaps=(2, 4, 4))
    magnitude = np.abs(transform.forward(x))
    return _invert(magnitude, transform, len(x), rng)


def _invert(
    magnitude: Samples, transform: Transform, length: int, rng: np.random.Generator
) -> Samples:
    """Griffin-Lim with drawn start, rounds and momentum."""
    start = random_phase(magnitude.shape, rng)
    if rng.random() < 0.3:
        start = minimum_phase(magnitude)
    momentum = float(rng.choice([0.0, 0.0, 0.9, 0.99]))
    rounds = int(log_uniform(rng, 4, 40))
    return griffin_lim(magnitude, transform, length, start, iterations=rounds, momentum=momentum)


def phase_damage(x: Samples, rng: np.random.Generator) -> Samples:
    """The clip's own magnitude with a phase that no voice has."""
    kinds = ("random", "frozen", "zero", "minimum", "noisy", "coarse", "smeared")
    kind = str(rng.choice(kinds))
    sizes, overlaps = _FRAMES.get(kind, ((256, 512, 1024), (2, 4)))
    transform = draw_transform(rng, sizes=sizes, overlaps=overlaps)
    spectrum = transform.forward(x)
    magnitude = np.abs(spectrum)
    return transform.inverse(turned(magnitude, damaged(kind, spectrum, transform, rng)), len(x))


def damaged(
    kind: str, spectrum: np.ndarray, transform: Transform, rng: np.random.Generator
) -> Samples:
    """Phases (radians) in place of those of `spectrum` [shape=(frames, bins)].

    ``random``: anew in every bin and frame. ``frozen``: each bin a steady tone at its middle.
    ``zero``, ``minimum``: of each frame by itself. ``noisy``, ``coarse``, ``smeared``: the human
    phase with noise, in 2 or 3 steps, or averaged over neighbouring bins.
    """
    frames, bins = spectrum.shape
    phase = np.angle(spectrum)
    if kind == "random":
        return random_phase(spectrum.shape, rng)
    if kind == "frozen":
        turn = 2 * np.pi * transform.hop / transform.n_fft * np.arange(bins)
        return np.arange(frames)[:, None] * turn % (2 * np.pi) + random_phase((bins,), rng)
    if kind == "zero":
        return np.broadcast_to(centred_phase(bins), spectrum.shape)
    if kind == "minimum":
        return minimum_phase(np.abs(spectrum))
    if kind == "noisy":
        return phase + rng.uniform(0.8, 2.0) * rng.standard_normal(spectrum.shape)
    if kind == "coarse":
        step = 2 * np.pi / int(rng.integers(2, 4))
        return np.round(phase / step) * step
    return smeared_phase(spectrum, int(rng.choice([5, 9, 15])))


def smeared_phase(spectrum: np.ndarray, width: int) -> Samples:
    """Phase of the mean of `width` neighbouring bins, each frame turned about its middle."""
    middle = np.exp(-1j * centred_phase(spectrum.shape[1]))
    unit = spectrum / np.maximum(np.abs(spectrum), 1e-9) * middle
    mean = smooth(unit.real, width, 1) + 1j * smooth(unit.imag, width, 1)
    return np.angle(mean / middle)


def mel_vocoder(x: Samples, rng: np.random.Generator) -> Samples:
    """24 to 128 mel bands back to a magnitude, then Griffin-Lim or what is left of the phase."""
    transform = draw_transform(rng, sizes=(512, 1024), overlaps=(4,))
    n_mels = int(rng.choice([24, 32, 40, 64, 80, 100, 128]))
    filters = mel_filters(
        n_mels,
        transform.n_fft,
        low=float(rng.choice([0.0, 20.0, 60.0])),
        high=float(rng.choice([7000.0, 7600.0, 8000.0])),
    )
    spectrum = transform.forward(x)
    power = float(rng.choice([1.0, 2.0]))
    mel = np.abs(spectrum) ** power @ filters.T
    method = str(rng.choice(["pinv", "nonnegative"]))
    magnitude = from_mel(mel, filters, method=method) ** np.float32(1 / power)
    return from_magnitude(magnitude, spectrum, transform, len(x), rng)


def from_magnitude(
    magnitude: Samples,
    human: np.ndarray,
    transform: Transform,
    length: int,
    rng: np.random.Generator,
) -> Samples:
    """Samples of a made-up magnitude: by Griffin-Lim, or with the human's phase, smeared."""
    if rng.random() < 0.65:
        return _invert(magnitude, transform, length, rng)
    phase = smeared_phase(human, int(rng.choice([1, 3, 7])))
    return transform.inverse(turned(magnitude, phase), length)


def from_mel(mel: Samples, filters: Samples, *, method: str, rounds: int = 25) -> Samples:
    """Spectra whose mel bands are `mel`.

    ``pinv`` clips the pseudo-inverse at zero; ``nonnegative`` goes from there by the
    multiplicative updates of Lee and Seung (2001) towards the least squares without negatives.

    Parameters
    ----------
    mel : np.ndarray [shape=(frames, n_mels)]
        Not negative.
    filters : np.ndarray [shape=(n_mels, bins)]
        As :func:`mel_filters` gives them.
    """
    spectra = np.maximum(mel @ np.linalg.pinv(filters).T, 0.0).astype(np.float32)
    if method == "pinv":
        return spectra
    floor = np.float32(1e-3) * (mel @ filters) / np.maximum(filters.sum(0), 1e-3)
    spectra, wanted = np.maximum(spectra, floor), mel @ filters
    square = filters.T @ filters
    for _ in range(rounds):
        spectra = spectra * wanted / np.maximum(spectra @ square, 1e-12)
    return spectra
