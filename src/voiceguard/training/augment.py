"""One channel for both classes: what may happen to a voice between a mouth and a detector.

The corpus must not give its classes away by level, noise floor, bandwidth, codec or silence at the
ends. :class:`ChannelSimulator` therefore draws, from the same distributions for every clip: a room,
other people behind, a noise floor, a microphone's colour, a codec chain with its band, clipping,
dither and gain.
Everything follows from one ``numpy.random.Generator``: the same seed gives the same sound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from voiceguard.errors import ParameterError
from voiceguard.training.cleaning import compress, gate, suppress_noise
from voiceguard.training.codecs import CODECS, round_trip

Samples = npt.NDArray[np.float32]
SAMPLE_RATE = 16_000
_NARROW_RATE = 8_000

_WIDE_CODECS = ("g722", "opus", "mp3", "aac")
_NARROW_CODECS = ("ulaw", "alaw", "gsm", "ima_adpcm", "amr_nb", "opus_nb", "mp3_8k")
_SHARES = (
    "room", "noise", "colour", "clip", "dither", "narrowband", "wide_codec", "second_codec",
    "resample", "babble", "suppress", "gate", "compress",
)  # fmt: skip
_OTHER_RATES = (11_025, 12_000, 14_000, 15_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_NARROW_WEIGHTS = np.array([0.28, 0.22, 0.14, 0.08, 0.12, 0.08, 0.08])
_TALKERS = (2, 7)


@dataclass(frozen=True)
class ChannelConfig:
    """How often each part of the channel is in the way; probabilities in [0, 1].

    Parameters
    ----------
    room, noise, colour, clip, dither : float
        Reverberation, additive noise, a random spectral tilt, hard clipping, a dither floor.
    narrowband : float
        An 8 kHz path (telephone band, then a narrow-band codec or none).
    wide_codec : float
        A 16 kHz codec, where the path is not narrow.
    second_codec : float
        A further narrow-band codec behind the first.
    resample : float
        To another rate and back, before anything else: where the band ends, and how steeply, is
        then the channel's.
    babble : float
        Two to seven other people talking behind, where the simulator was given voices.
    suppress : float
        Noise suppression, as in a handset or an editor, behind room and noise.
    gate : float
        A gate behind it, that turns down what lies between words.
    compress : float
        A compressor of dynamics behind both.
    snr_db : tuple of float
        Range of the signal-to-noise ratio, for noise and for babble, dB.
    gain_db : tuple of float
        Range of the peak level after everything, dB relative to full scale.
    """

    room: float = 0.2
    noise: float = 0.5
    colour: float = 0.4
    clip: float = 0.06
    dither: float = 0.7
    narrowband: float = 0.4
    wide_codec: float = 0.3
    second_codec: float = 0.15
    resample: float = 0.0
    babble: float = 0.0
    suppress: float = 0.0
    gate: float = 0.0
    compress: float = 0.0
    snr_db: tuple[float, float] = (5.0, 45.0)
    gain_db: tuple[float, float] = (-30.0, 0.0)

    def __post_init__(self) -> None:
        for name in _SHARES:
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ParameterError(
                    f"The {name!r} parameter of ChannelConfig must be a probability in [0, 1]. "
                    f"Got {value!r} instead."
                )


class ChannelSimulator:
    """Draw a channel and send a clip through it.

    Parameters
    ----------
    config : ChannelConfig
    rooms : np.ndarray [shape=(n_rooms, taps)], optional
        Impulse responses (:func:`voiceguard.training.rooms.room_bank`); no reverberation without.
    voices : callable, optional
        Draws a person's speech from a generator, float32 at 16 kHz; no babble without.
    """

    def __init__(
        self,
        config: ChannelConfig,
        rooms: Samples | None = None,
        voices: Callable[[np.random.Generator], Samples] | None = None,
    ) -> None:
        self.config = config
        self.rooms = rooms
        self.voices = voices

    def __call__(self, x: Samples, rng: np.random.Generator) -> Samples:
        """Send `x` through a channel drawn from `rng`.

        Parameters
        ----------
        x : np.ndarray [shape=(n,)]
            float32 at 16 kHz.
        rng : np.random.Generator

        Returns
        -------
        np.ndarray [shape=(n,)]
            float32, finite, peak at the drawn level.
        """
        c = self.config
        if c.resample and rng.random() < c.resample:
            x = resampled(x, rng)
        if self.rooms is not None and rng.random() < c.room:
            x = reverberate(x, self.rooms[rng.integers(len(self.rooms))])
        if self.voices is not None and c.babble and rng.random() < c.babble:
            talkers = int(rng.integers(*_TALKERS, endpoint=True))
            others = [crop(self.voices(rng), len(x), rng) for _ in range(talkers)]
            x = at_snr(x, babble(others), rng.uniform(*c.snr_db))
        if rng.random() < c.colour:
            x = colour(x, rng)
        if rng.random() < c.noise:
            x = add_noise(x, rng.uniform(*c.snr_db), rng)
        x = self._clean(x, rng)
        if rng.random() < c.clip:
            x = clip(x, rng.uniform(0.2, 0.9))
        x = to_peak(x, rng.uniform(-20.0, -0.5))
        x = self._transmit(x, rng)
        if rng.random() < c.dither:
            x = dither(x, rng.uniform(-90.0, -50.0), rng)
        return to_peak(x, rng.uniform(*c.gain_db))

    def _clean(self, x: Samples, rng: np.random.Generator) -> Samples:
        c = self.config
        if c.suppress and rng.random() < c.suppress:
            x = suppress_noise(to_peak(x, -1.0), rng)
        if c.gate and rng.random() < c.gate:
            x = gate(x, rng)
        if c.compress and rng.random() < c.compress:
            x = compress(x, rng)
        return x

    def _transmit(self, x: Samples, rng: np.random.Generator) -> Samples:
        c = self.config
        if rng.random() < c.narrowband:
            return narrowband(x, rng, second=rng.random() < c.second_codec)
        if rng.random() < c.wide_codec:
            name = str(rng.choice(_WIDE_CODECS))
            return round_trip(x, name, bit_rate=draw_bit_rate(name, rng))
        return x


def crop(x: Samples, length: int, rng: np.random.Generator) -> Samples:
    """A random stretch of `length` samples; a shorter clip is repeated from its start.

    Before the cut up to a tenth of a second is trimmed off each end, so that silence at the ends
    tells nothing.
    """
    trim = int(min(1_600, len(x) // 8))
    x = x[rng.integers(0, trim + 1) : len(x) - rng.integers(0, trim + 1)]
    if len(x) < length:
        return np.resize(x, length)
    start = int(rng.integers(0, len(x) - length + 1))
    return x[start : start + length]


def reverberate(x: Samples, response: Samples) -> Samples:
    """`x` in a room, cut to its own length."""
    from scipy.signal import fftconvolve

    wet: Samples = fftconvolve(x, response)[: len(x)].astype(np.float32)
    return wet


def add_noise(x: Samples, snr_db: float, rng: np.random.Generator) -> Samples:
    """Stationary noise of a random colour (power falling as f^0 to f^-2), or mains hum.

    Parameters
    ----------
    x : np.ndarray [shape=(n,)]
    snr_db : float
        Mean power of `x` over that of the noise, dB.
    rng : np.random.Generator

    Returns
    -------
    np.ndarray [shape=(n,)]
    """
    n = len(x)
    spectrum = rng.standard_normal(n // 2 + 1) + 1j * rng.standard_normal(n // 2 + 1)
    frequency = np.arange(1, n // 2 + 2) * SAMPLE_RATE / n
    noise = np.fft.irfft(spectrum * (frequency / 100.0 + 1.0) ** -rng.uniform(0.0, 1.0), n)
    if rng.random() < 0.15:
        hum = float(rng.choice([50.0, 60.0]))
        noise = noise + np.std(noise) * _hum(n, hum, rng)
    return at_snr(x, noise, snr_db)


def at_snr(x: Samples, noise: npt.NDArray[np.floating], snr_db: float) -> Samples:
    """`x` plus `noise` scaled so that the ratio of their mean powers is `snr_db`, dB.

    Parameters
    ----------
    x, noise : np.ndarray [shape=(n,)]
    snr_db : float

    Returns
    -------
    np.ndarray [shape=(n,)]
        Silence stays silence.
    """
    scale = np.sqrt(np.mean(x**2) / (np.mean(noise**2) + 1e-20)) * 10.0 ** (-snr_db / 20.0)
    noisy: Samples = (x + scale * noise).astype(np.float32)
    return noisy


def babble(voices: Iterable[Samples]) -> npt.NDArray[np.float64]:
    """Voices of one length [shape=(n,)] at once, each at a mean power of 1 [shape=(n,)]."""
    total: npt.NDArray[np.float64] = np.sum(
        [voice / (np.sqrt(np.mean(np.square(voice))) + 1e-10) for voice in voices],
        axis=0,
        dtype=np.float64,
    )
    return total


def _hum(n: int, base_hz: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    t = np.arange(n) / SAMPLE_RATE
    harmonics = [
        rng.random() / k * np.sin(2 * np.pi * (k * base_hz * t + rng.random()))
        for k in (1, 2, 3, 5, 7)
    ]
    return np.asarray(np.sum(harmonics, axis=0))


def colour(x: Samples, rng: np.random.Generator) -> Samples:
    """A smooth random response, within about +-8 dB at eight points in mel, zero phase."""
    n = len(x)
    frequency = np.fft.rfftfreq(n, 1.0 / SAMPLE_RATE)
    mel = np.log1p(frequency / 700.0)
    gain_db = np.interp(mel, np.linspace(0.0, mel[-1], 8), rng.normal(0.0, 4.0, 8))
    return np.fft.irfft(np.fft.rfft(x) * 10.0 ** (gain_db / 20.0), n).astype(np.float32)


def clip(x: Samples, ratio: float) -> Samples:
    """Hard clipping at `ratio` of the peak."""
    limit = float(np.max(np.abs(x))) * ratio
    return np.clip(x, -limit, limit)


def dither(x: Samples, level_dbfs: float, rng: np.random.Generator) -> Samples:
    """A white floor at `level_dbfs` below the clip's own peak."""
    level = float(np.max(np.abs(x))) * 10.0 ** (level_dbfs / 20.0)
    floored: Samples = (x + level * rng.standard_normal(len(x))).astype(np.float32)
    return floored


def to_peak(x: Samples, peak_dbfs: float) -> Samples:
    """`x` scaled to a peak of `peak_dbfs`, dB relative to full scale; silence stays silence."""
    peak = float(np.max(np.abs(x))) if len(x) else 0.0
    if peak < 1e-8:
        return x.astype(np.float32)
    scaled: Samples = (x * (10.0 ** (peak_dbfs / 20.0) / peak)).astype(np.float32)
    return scaled


def to_length(x: Samples, length: int) -> Samples:
    """The first `length` samples of `x`, zeros behind where it has fewer."""
    return np.pad(x, (0, max(0, length - len(x))))[:length]


def transcode(x: Samples, codec: str, *, bit_rate: int | None = None) -> Samples:
    """`x` through a codec and back, by way of the codec's own rate.

    Parameters
    ----------
    x : np.ndarray [shape=(n,)]
        At 16 kHz.
    codec : str
        A key of :data:`voiceguard.training.codecs.CODECS`.
    bit_rate : int, optional
        bit/s; the codec's first where None.

    Returns
    -------
    np.ndarray [shape=(n,)]
        At 16 kHz.

    Raises
    ------
    ParameterError
        If the codec is unknown.
    MissingExtraError
        If it needs PyAV and PyAV is absent.
    """
    rate = CODECS[codec].sample_rate if codec in CODECS else SAMPLE_RATE
    if rate == SAMPLE_RATE:
        return round_trip(x, codec, bit_rate=bit_rate)
    return _to_wide(round_trip(_to_narrow(x), codec, bit_rate=bit_rate), len(x))


def narrowband(x: Samples, rng: np.random.Generator, *, second: bool = False) -> Samples:
    """An 8 kHz path: down, at times a telephone band, one or two codecs or none, and up again."""
    low = _to_narrow(x)
    if rng.random() < 0.5:
        low = _telephone_band(low)
    for _ in range(1 + int(second)):
        if rng.random() < 0.85:
            name = str(rng.choice(_NARROW_CODECS, p=_NARROW_WEIGHTS))
            low = round_trip(low, name, bit_rate=draw_bit_rate(name, rng))
    return _to_wide(low, len(x))


def resampled(x: Samples, rng: np.random.Generator) -> Samples:
    """To a rate of 11 to 48 kHz and back, by filters of any steepness."""
    import soxr

    rate = float(rng.choice(_OTHER_RATES))
    down, up = (str(rng.choice(["LQ", "MQ", "HQ", "VHQ"])) for _ in range(2))
    other = soxr.resample(x, SAMPLE_RATE, rate, quality=down)
    return _to_wide(other, len(x), rate=rate, quality=up)


def _to_narrow(x: Samples) -> Samples:
    import soxr

    return np.asarray(soxr.resample(x, SAMPLE_RATE, _NARROW_RATE), dtype=np.float32)


def _to_wide(
    x: Samples, length: int, *, rate: float = _NARROW_RATE, quality: str = "HQ"
) -> Samples:
    """Back to 16 kHz, at the length that the clip had there."""
    import soxr

    wide = np.asarray(soxr.resample(x, rate, SAMPLE_RATE, quality=quality), dtype=np.float32)
    return to_length(wide, length)


def band_pass(x: Samples, low_hz: float, high_hz: float, *, sample_rate: int) -> Samples:
    """A Butterworth band-pass, 24 dB an octave on either side.

    Parameters
    ----------
    x : np.ndarray [shape=(n,)]
    low_hz, high_hz : float
        Where the response is 3 dB down, Hz; 0 and half the rate leave that side open.
    sample_rate : int
        Hz.

    Returns
    -------
    np.ndarray [shape=(n,)]
    """
    from scipy.signal import butter, sosfilt

    lowest, highest = low_hz > 0.0, high_hz < sample_rate / 2
    if not lowest and not highest:
        return x
    kind = "bandpass" if lowest and highest else "highpass" if lowest else "lowpass"
    edges = [edge for edge, wanted in ((low_hz, lowest), (high_hz, highest)) if wanted]
    sos = butter(
        4, edges if len(edges) == 2 else edges[0], btype=kind, fs=sample_rate, output="sos"
    )
    return np.asarray(sosfilt(sos, x), dtype=np.float32)


def _telephone_band(x: Samples) -> Samples:
    """300 to 3400 Hz, the band of ITU-T G.712."""
    return band_pass(x, 300.0, 3_400.0, sample_rate=_NARROW_RATE)


def draw_bit_rate(name: str, rng: np.random.Generator) -> int | None:
    """One of a codec's bit rates, bit/s; None where it has one only."""
    rates = CODECS[name].bit_rates
    return int(rng.choice(rates)) if rates else None
