"""The conditions of the robustness benchmark by name, and which of them to run.

A condition changes a clip in one way at one strength. It draws from a generator that follows from
(seed, condition, clip) alone, so that neither the order nor the choice of conditions matters.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial

import numpy as np
import numpy.typing as npt

from _cleaning import FILTERS, WEBRTC_LEVELS, filtered, suppressed
from _effects import (
    LAPTOP,
    LARGE_ROOM,
    PHONE,
    SMALL_ROOM,
    drop_packets,
    in_room,
    padded,
    pcm16,
    replayed,
    resampled,
    shifted,
    stretched,
)
from voiceguard.audio.telephony import g711_path
from voiceguard.errors import ParameterError
from voiceguard.training.augment import at_snr, clip, to_peak, transcode
from voiceguard.training.codecs import CODECS, has_encoder
from voiceguard.training.perturb_noise import Noise
from voiceguard.training.perturb_wave import Speed, TrimSilence

Samples = npt.NDArray[np.float32]
Apply = Callable[[Samples, np.random.Generator, Sequence[str]], Samples]

CLEAN = "clean"
SNRS_DB = (20, 15, 10, 5, 0)
ATTACK_SNRS_DB = (40, 30)
LOSSES = (0.01, 0.03, 0.05, 0.10)
PEAKS_DBFS = (0, -10, -20, -30, -40)
# What happens to a voice that passes through two networks, or is forwarded as a message.
CHAINS: tuple[tuple[tuple[str, int | None], tuple[str, int | None]], ...] = (
    (("gsm", None), ("ulaw", None)),
    (("amr_nb", 12_200), ("ulaw", None)),
    (("opus_nb", 12_000), ("alaw", None)),
    (("g722", None), ("opus", 20_000)),
    (("opus", 20_000), ("ulaw", None)),
    (("aac", 32_000), ("opus", 14_000)),
    (("mp3", 32_000), ("ulaw", None)),
    (("ulaw", None), ("mp3_8k", 16_000)),
)


@dataclass(frozen=True)
class Condition:
    """One way in which a recording is changed.

    Parameters
    ----------
    name : str
        Says what and how strong.
    group : str
        Conditions of one kind.
    apply : callable
        (float32 [shape=(n,)] at 16 kHz, generator, files of other people's voices) ->
        float32 [shape=(m,)].
    """

    name: str
    group: str
    apply: Apply

    def __call__(self, x: Samples, *, clip_id: str, seed: int, voices: Sequence[str]) -> Samples:
        """The clip under this condition.

        Parameters
        ----------
        x : np.ndarray [shape=(n,)]
            float32 at 16 kHz.
        clip_id : str
            Names the clip; with `seed` and the condition it decides every draw.
        seed : int
        voices : sequence of str
            Audio files of others, for babble.

        Returns
        -------
        np.ndarray [shape=(m,)]
        """
        words = [zlib.crc32(text.encode()) for text in (self.name, clip_id)]
        return self.apply(x, np.random.default_rng([seed, *words]), voices)


def conditions() -> tuple[list[Condition], list[str]]:
    """Every condition but the attack, clean first; and the codecs that cannot be encoded here."""
    missing = sorted(name for name in CODECS if not has_encoder(name))
    found = [_plain(CLEAN, CLEAN, lambda x: x), *_noises(), *_rooms(), *_telephones()]
    found += [c for c in _codecs() if not set(c.name.split()) & set(missing)]
    found += [*_resampling(), *_tempos(), *_levels(), *_cleaned(), *_replays(), *_losses()]
    return found, missing


def choose(names: Sequence[str], pattern: str) -> list[str]:
    """The names that a comma-separated list of names or globs picks, in their own order.

    Raises
    ------
    ParameterError
        If a part of the pattern picks nothing.
    """
    parts = [part.strip() for part in pattern.split(",")]
    for part in parts:
        if not any(fnmatchcase(name, part) for name in names):
            raise ParameterError(
                f"The 'conditions' option must name some of {', '.join(names)}. Got {part!r}."
            )
    return [name for name in names if any(fnmatchcase(name, part) for part in parts)]


def attack_name(snr_db: float) -> str:
    """Name of the attack's condition at a signal-to-noise ratio, dB."""
    return f"attack {snr_db:g} dB"


def _plain(name: str, group: str, change: Callable[[Samples], Samples]) -> Condition:
    return Condition(name, group, lambda x, rng, voices: change(x))


def _drawn(
    name: str, group: str, change: Callable[[Samples, np.random.Generator], Samples]
) -> Condition:
    return Condition(name, group, lambda x, rng, voices: change(x, rng))


def _white(x: Samples, rng: np.random.Generator, *, snr_db: float) -> Samples:
    return at_snr(x, rng.standard_normal(len(x)), snr_db)


def _babble(
    x: Samples, rng: np.random.Generator, voices: Sequence[str], *, snr_db: float
) -> Samples:
    return Noise(snr_db=(snr_db, snr_db), source="babble", files=tuple(voices), talkers=(5, 5))(
        x, rng
    )


def _noises() -> Iterator[Condition]:
    for snr_db in SNRS_DB:
        yield _drawn(f"white {snr_db} dB", "noise", partial(_white, snr_db=snr_db))
    for snr_db in SNRS_DB:
        yield Condition(f"babble {snr_db} dB", "noise", partial(_babble, snr_db=snr_db))


def _rooms() -> Iterator[Condition]:
    for title, room in (("small", SMALL_ROOM), ("large", LARGE_ROOM)):
        yield _plain(f"room {title}", "room", partial(in_room, room=room))


def _telephones() -> Iterator[Condition]:
    yield _plain("line ulaw", "telephone", partial(g711_path, law="ulaw"))
    yield _plain("line alaw", "telephone", partial(g711_path, law="alaw"))


def _coded(x: Samples, *, chain: Sequence[tuple[str, int | None]]) -> Samples:
    for codec, bit_rate in chain:
        x = transcode(x, codec, bit_rate=bit_rate)
    return x


def _codec_title(codec: str, bit_rate: int | None) -> str:
    return codec if bit_rate is None else f"{codec} {bit_rate / 1000:g}k"


def _codecs() -> Iterator[Condition]:
    for codec in CODECS.values():
        for bit_rate in codec.bit_rates or (None,):
            title = f"codec {_codec_title(codec.name, bit_rate)}"
            yield _plain(title, "codec", partial(_coded, chain=((codec.name, bit_rate),)))
    for chain in CHAINS:
        title = f"chain {' + '.join(_codec_title(*link) for link in chain)}"
        yield _plain(title, "chain", partial(_coded, chain=chain))


def _resampling() -> Iterator[Condition]:
    for rate in (8_000, 11_025, 22_050, 44_100):
        yield _plain(f"resample {rate / 1000:g} kHz", "resample", partial(resampled, rate=rate))


def _tempos() -> Iterator[Condition]:
    for factor in (0.9, 1.1):
        percent = f"{100 * (factor - 1):+.0f} %"
        yield _drawn(f"speed {percent}", "speed", Speed((factor,)))
        yield _plain(f"tempo {percent}", "speed", partial(stretched, factor=factor))
        yield _plain(f"pitch {percent}", "speed", partial(shifted, factor=factor))


def _levels() -> Iterator[Condition]:
    for ratio in (0.5, 0.25, 0.1):
        yield _plain(f"clip at {100 * ratio:g} %", "level", partial(clip, ratio=ratio))
    yield _drawn("silence trimmed", "silence", TrimSilence((40.0, 40.0)))
    for title, floor in (("zeros", None), ("a floor", -66.0)):
        pad = partial(padded, seconds=1.0, floor_dbfs=floor)
        yield _drawn(f"silence padded with {title}", "silence", pad)
    for peak in PEAKS_DBFS:
        yield _plain(f"peak {peak} dBFS", "level", partial(_at_peak, peak_dbfs=peak))


def _at_peak(x: Samples, *, peak_dbfs: float) -> Samples:
    return pcm16(to_peak(x, peak_dbfs))


def _cleaned() -> Iterator[Condition]:
    for level in WEBRTC_LEVELS:
        change = partial(suppressed, level=level)
        yield _plain(f"suppression WebRTC {level}", "cleaned", change)
    for name in FILTERS:
        yield _plain(name, "cleaned", partial(filtered, name=name))


def _replays() -> Iterator[Condition]:
    for title, device in (("phone", PHONE), ("laptop", LAPTOP)):
        yield _drawn(f"replay {title}", "replay", partial(replayed, handset=device))


def _losses() -> Iterator[Condition]:
    for share in LOSSES:
        yield _drawn(f"loss {100 * share:g} %", "loss", partial(drop_packets, share=share))
