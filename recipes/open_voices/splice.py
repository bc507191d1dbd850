"""Human calls with a synthetic passage spliced in, controls with the same joins, and the reverse.

The corpus' clips last 4.1 s at most, so a call is made of one speaker's held-out clips, joined by
cross-fades of equal power, each at the same active level. Then one passage is laid over it:

- a **spliced** call gets a passage of a held-out synthetic system;
- a **control** gets a human passage at the same place, cut and faded in the same way: of the
  speaker's own clips in every other call, of another human in the rest, so that neither a join nor
  a change of voice tells the two apart;
- **reversed** calls are a human greeting of 2 to 4 s before a synthetic message, and **messages**
  the same without the greeting.

Everything is a pure function of (seed, index): spliced calls of one index differ in their passage
alone, whatever its length. After :func:`through` the whole call has gone through one channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from evaluate import CHANNELS

from voiceguard.errors import ProtocolError
from voiceguard.training.corpus import SAMPLE_RATE, Corpus

Samples = npt.NDArray[np.float32]

FADE = 800
"""Length of a cross-fade, samples: 50 ms."""

LEVEL_DB = -26.0
"""Active level of every piece, dB relative to full scale."""

CALL_S = (20.0, 60.0)
MESSAGE_S = (8.0, 30.0)
GREETING_S = (2.0, 4.0)
PASSAGES_S = (1.0, 2.0, 4.0, 8.0)

_FRAME = 320
_MARGIN = SAMPLE_RATE
_TRIES = 8


@dataclass(frozen=True)
class Voice:
    """One human speaker, or one voice of one synthetic system.

    Parameters
    ----------
    name : str
        Speaker, or system and speaker.
    family : str
        What voices are dealt by: the recording's origin, or the system.
    rows : tuple of int
        Its clips, rows of the manifest.
    length : int
        Samples that all of them give once joined.
    """

    name: str
    family: str
    rows: tuple[int, ...]
    length: int


@dataclass(frozen=True, eq=False)
class Call:
    """A recording and the truth about it.

    Parameters
    ----------
    name : str
        Unique among the calls of a seed.
    kind : str
        ``spliced``, ``control``, ``reversed`` or ``message``.
    samples : np.ndarray [shape=(n,), dtype=float32]
        16 kHz.
    fakes : tuple of (float, float)
        Where it is synthetic, seconds; borders lie in the middle of the cross-fades.
    passage_s : float
        Length of what was spliced in, synthetic or human, seconds.
    host, donor : str
        Whose call it is, and of whom the passage is.
    """

    name: str
    kind: str
    samples: Samples
    fakes: tuple[tuple[float, float], ...]
    passage_s: float
    host: str
    donor: str


def active_level_db(x: Samples) -> float:
    """Mean power of the frames of 20 ms within 30 dB of the loudest, dB relative to full scale."""
    frames = np.resize(x, max(len(x) // _FRAME, 1) * _FRAME).reshape(-1, _FRAME)
    power = np.mean(frames.astype(np.float64) ** 2, axis=1)
    return float(10 * np.log10(np.mean(power[power >= 1e-3 * power.max()]) + 1e-12))


def levelled(x: Samples) -> Samples:
    """The piece at :data:`LEVEL_DB`; silence stays silent."""
    level = active_level_db(x)
    gain = 0.0 if level < -100.0 else 10 ** ((LEVEL_DB - level) / 20)
    return (x * np.float32(gain)).astype(np.float32)


def ramp(n: int = FADE) -> Samples:
    """Rising half of a cross-fade; its square and its mirror's square sum to one.

    Two pieces that have nothing to do with each other then keep their power through the fade.
    """
    return np.sin(0.5 * np.pi * (np.arange(n) + 0.5) / n).astype(np.float32)


def join(pieces: Iterable[Samples]) -> Samples:
    """Pieces one after the other, each overlapping the next by a cross-fade.

    Parameters
    ----------
    pieces : iterable of np.ndarray [shape=(n,)]
        Longer than two cross-fades each.

    Returns
    -------
    np.ndarray [shape=(sum of lengths - fades,)]
    """
    rise = ramp()
    parts: list[Samples] = []
    for piece in pieces:
        if parts:
            seam = parts[-1][-FADE:] * rise[::-1] + piece[:FADE] * rise
            parts[-1] = parts[-1][:-FADE]
            piece = np.concatenate((seam, piece[FADE:]))
        parts.append(piece)
    return np.concatenate(parts)


def overlay(host: Samples, passage: Samples, start: int) -> Samples:
    """Replace a stretch of a call.

    Parameters
    ----------
    host : np.ndarray [shape=(n,)]
    passage : np.ndarray [shape=(length + FADE,)]
        Half a fade more than the stretch at both ends.
    start : int
        First sample of the stretch; half a fade before it the host is still untouched.

    Returns
    -------
    np.ndarray [shape=(n,)]
        The middle of each cross-fade lies on a border of [start, start + length).
    """
    rise = ramp()
    inner, outer = np.ones(len(passage), np.float32), np.zeros(len(passage), np.float32)
    inner[:FADE], inner[-FADE:] = rise, rise[::-1]
    outer[:FADE], outer[-FADE:] = rise[::-1], rise
    call = host.copy()
    at = slice(start - FADE // 2, start - FADE // 2 + len(passage))
    call[at] = host[at] * outer + passage * inner
    return call


def through(call: Call, channel: str) -> Call:
    """The whole call through ``clean`` or ``g711``."""
    return replace(call, samples=CHANNELS[channel](call.samples))


def gather(corpus: Corpus, rows: Iterable[int], label: str) -> list[Voice]:
    """Voices among some rows, in the order of their names.

    Parameters
    ----------
    corpus : Corpus
    rows : iterable of int
        Rows of the manifest.
    label : str
        ``bonafide`` (by origin and speaker) or ``spoof`` (by system and speaker).

    Returns
    -------
    list of Voice
    """
    family = "origin" if label == "bonafide" else "system"
    clips: dict[tuple[str, str], list[int]] = {}
    for i in rows:
        row = corpus.rows[i]
        if row["label"] == label:
            clips.setdefault((row[family], row["speaker"]), []).append(int(i))
    lengths = np.diff(corpus.offsets)
    return [
        Voice(
            f"{name}/{speaker}",
            name,
            tuple(own),
            int(sum(lengths[i] - FADE for i in own)) + FADE,
        )
        for (name, speaker), own in sorted(clips.items())
    ]


def recording(corpus: Corpus, voice: Voice, n: int, rng: np.random.Generator) -> Samples:
    """Clips of a voice in random order, levelled and joined until `n` samples are there, or all."""
    pieces, total = [], FADE
    for i in rng.permutation(voice.rows):
        if total >= n:
            break
        pieces.append(levelled(corpus.clip(int(i))))
        total += len(pieces[-1]) - FADE
    return join(pieces)[:n]


def excerpt(x: Samples, n: int, rng: np.random.Generator) -> Samples:
    """The loudest of a few random stretches of `n` samples, so that a passage holds speech."""
    starts = rng.integers(0, len(x) - n + 1, _TRIES)
    best = max(starts.tolist(), key=lambda start: float(np.sum(x[start : start + n] ** 2)))
    return x[best : best + n]


class CallMaker:
    """Makes calls out of held-out clips.

    Parameters
    ----------
    corpus : Corpus
    rows : iterable of int
        The held-out rows; see :func:`split.split`.
    seed : int
        Another seed gives other calls.

    Raises
    ------
    ProtocolError
        If no human voice has 20 s, fewer than two have a passage, or no synthetic voice has 8 s.
    """

    def __init__(self, corpus: Corpus, rows: Iterable[int], *, seed: int = 0) -> None:
        self.corpus, self.seed = corpus, seed
        rows = list(rows)
        humans = gather(corpus, rows, "bonafide")
        longest = _samples(max(PASSAGES_S)) + FADE
        self.hosts = [v for v in humans if v.length >= _samples(CALL_S[0])]
        self.humans = [v for v in humans if v.length >= longest]
        self.fakes = [v for v in gather(corpus, rows, "spoof") if v.length >= longest]
        if not self.hosts or len(self.humans) < 2 or not self.fakes:
            raise ProtocolError(
                "Calls need a held-out human voice of 20 s, another of 8 s and a synthetic one of "
                f"8 s. Got {len(self.hosts)}, {len(self.humans)} and {len(self.fakes)}: hold out "
                "another fold."
            )

    def spliced(self, index: int, passage_s: float) -> Call:
        """A human call with a synthetic passage of `passage_s` seconds."""
        donor = self._dealt(self.fakes, index, part=1)
        return self._overlaid("spliced", index, passage_s, donor)

    def control(self, index: int, passage_s: float) -> Call:
        """The call of the same index with a human passage at the same place."""
        donor = self._host(index)
        if index % 2:
            others = [v for v in self.humans if v.name != donor.name]
            donor = self._dealt(others, index, part=1)
        return self._overlaid("control", index, passage_s, donor)

    def reversed(self, index: int) -> Call:
        """A human greeting before a synthetic message."""
        message = self.message(index)
        rng = self._rng(index, 3)
        human = self._dealt(self.humans, index, part=3)
        length = int(rng.uniform(*GREETING_S) * SAMPLE_RATE) + FADE // 2
        greeting = levelled(recording(self.corpus, human, length, rng))
        samples = join((greeting, message.samples))
        border = (len(greeting) - FADE // 2) / SAMPLE_RATE
        return Call(
            f"reversed {index}",
            "reversed",
            samples,
            ((border, len(samples) / SAMPLE_RATE),),
            border,
            message.host,
            human.name,
        )

    def message(self, index: int) -> Call:
        """The synthetic message alone."""
        rng, voice = self._rng(index, 2), self._dealt(self.fakes, index, part=2)
        length = min(voice.length, int(rng.uniform(*MESSAGE_S) * SAMPLE_RATE))
        samples = recording(self.corpus, voice, length, rng)
        whole = ((0.0, len(samples) / SAMPLE_RATE),)
        return Call(f"message {index}", "message", samples, whole, 0.0, voice.name, voice.name)

    def _overlaid(self, kind: str, index: int, passage_s: float, donor: Voice) -> Call:
        host, rng, length = self._host(index), self._rng(index, 0), _samples(passage_s)
        n = int(rng.uniform(*CALL_S) * SAMPLE_RATE)
        samples = recording(self.corpus, host, min(n, host.length), rng)
        place = rng.random()
        start = _MARGIN + int(place * (len(samples) - length - 2 * _MARGIN))
        own = self._rng(index, 4)
        speech = recording(self.corpus, donor, length + FADE, own)
        passage = levelled(excerpt(speech, length + FADE, own))
        span = (start / SAMPLE_RATE, (start + length) / SAMPLE_RATE)
        return Call(
            f"{kind} {index} {passage_s:g}",
            kind,
            overlay(samples, passage, start),
            (span,) if kind == "spliced" else (),
            passage_s,
            host.name,
            donor.name,
        )

    def _host(self, index: int) -> Voice:
        return self.hosts[index % len(self.hosts)]

    def _dealt(self, voices: list[Voice], index: int, *, part: int) -> Voice:
        """Families in turn, a random voice of the family."""
        families = sorted({v.family for v in voices})
        chosen = families[index % len(families)]
        own = [v for v in voices if v.family == chosen]
        return own[self._rng(index, part + 10).integers(len(own))]

    def _rng(self, index: int, part: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, index, part])


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)


MAKERS: dict[str, Callable[[CallMaker, int, float], Call]] = {
    "spliced": CallMaker.spliced,
    "control": CallMaker.control,
    "reversed": lambda maker, index, _: maker.reversed(index),
    "message": lambda maker, index, _: maker.message(index),
}
"""How a call of each kind is made of (maker, index, passage_s)."""
