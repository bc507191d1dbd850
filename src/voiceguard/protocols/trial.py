"""One trial: an utterance to be scored, and what its protocol says of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

TrialLabel = Literal["bonafide", "spoof"]

_SPELLINGS: Mapping[str, TrialLabel] = {
    **dict.fromkeys(("bonafide", "bona-fide", "bona_fide", "human", "genuine", "real"), "bonafide"),
    **dict.fromkeys(("spoof", "spoofed", "fake", "synthetic", "deepfake"), "spoof"),
}


class Trial(NamedTuple):
    """An utterance with its label and the conditions it was made under.

    A named tuple rather than a dataclass because a protocol holds up to a million of them and they
    are several times cheaper to make; like one, it is immutable and hashable.

    Parameters
    ----------
    utterance : str
        Its id; scores refer to it.
    speaker : str or None
        The speaker, claimed or real.
    label : {"bonafide", "spoof"} or None
        The class; None where the key is withheld.
    attack : str or None
        The spoofing system (``A07``); None for bona fide.
    codec : str or None
        The codec or compression.
    subset : str or None
        ``eval``, ``progress`` or ``hidden`` where the protocol has such parts.
    path : str or None
        The audio file, relative to the folder of the audio; None: `utterance` with the corpus'
        own suffix.
    extra : tuple of (str, str)
        Columns that have no field of their own, by name, in the order of the file.
    """

    utterance: str
    speaker: str | None = None
    label: TrialLabel | None = None
    attack: str | None = None
    codec: str | None = None
    subset: str | None = None
    path: str | None = None
    extra: tuple[tuple[str, str], ...] = ()

    def get(self, name: str) -> str | None:
        """Return a field or an extra column by name; None where there is none."""
        if name in self._fields and name != "extra":
            value: str | None = getattr(self, name)
            return value
        return dict(self.extra).get(name)


def parse_label(text: str) -> TrialLabel | None:
    """Read a class by any of its usual spellings; None where it is none of them.

    Parameters
    ----------
    text : str
        ``bonafide``, ``bona-fide``, ``real``, ``human``, ``genuine``; ``spoof``, ``fake``,
        ``synthetic`` ...; case does not matter.

    Returns
    -------
    {"bonafide", "spoof"} or None
    """
    return _SPELLINGS.get(text.strip().lower())
