"""The published encoders on record: where their authors' weights lie and what is known of them.

Nothing is fetched but by :func:`pull_encoder`. torchaudio's files come without a published SHA-256:
they are marked unverified, and the hash of what came is told, for you to keep.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from voiceguard._download import Opener, download
from voiceguard.errors import IntegrityError, ModelError, UnknownModelError

_TORCHAUDIO = "https://download.pytorch.org/torchaudio/models/"
_OPENAI = "https://openaipublic.azureedge.net/main/whisper/models/"
_BLOCK = 1 << 16
_SLACK = 1.05


@dataclass(frozen=True)
class EncoderEntry:
    """An encoder on record.

    Parameters
    ----------
    name : str
        Its name here.
    architecture : str
        What :func:`voiceguard.features.ssl.load_encoder` takes as `architecture`.
    url : str
        Public address of the weights.
    size : int
        Bytes, to three digits.
    licence : str
        SPDX identifier of the weights, as their publisher states it.
    sha256 : str or None
        SHA-256 that the publisher states, lower case hex; None where none is stated.
    """

    name: str
    architecture: str
    url: str
    size: int
    licence: str
    sha256: str | None = None

    @property
    def verified(self) -> bool:
        """Whether a download can be compared with a published SHA-256."""
        return self.sha256 is not None

    @property
    def file_name(self) -> str:
        """Last part of the address."""
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Pulled:
    """A file that was fetched.

    Parameters
    ----------
    path : Path
        Where it lies.
    sha256 : str
        Its SHA-256.
    verified : bool
        Whether the publisher states that SHA-256. Where not, "unverified": keep the hash.
    """

    path: Path
    sha256: str
    verified: bool


def _of_torchaudio(name: str, file: str, size: int) -> EncoderEntry:
    return EncoderEntry(name, name, _TORCHAUDIO + file, size, "MIT")


def _of_openai(name: str, sha256: str, size: int, architecture: str = "") -> EncoderEntry:
    file = name.removeprefix("whisper-")
    url = f"{_OPENAI}{sha256}/{file}.pt"
    return EncoderEntry(name, architecture or name, url, size, "MIT", sha256)


_ENTRIES = (
    _of_torchaudio("wav2vec2-base", "wav2vec2_fairseq_base_ls960.pth", 378_000_000),
    _of_torchaudio("wav2vec2-large", "wav2vec2_fairseq_large_ls960.pth", 1_260_000_000),
    _of_torchaudio("wav2vec2-large-lv60", "wav2vec2_fairseq_large_lv60k.pth", 1_260_000_000),
    _of_torchaudio("xlsr-53", "wav2vec2_fairseq_large_xlsr53.pth", 1_260_000_000),
    _of_torchaudio("xls-r-300m", "wav2vec2_xlsr_300m.pth", 1_260_000_000),
    _of_torchaudio("xls-r-1b", "wav2vec2_xlsr_1b.pth", 3_850_000_000),
    _of_torchaudio("hubert-base", "hubert_fairseq_base_ls960.pth", 378_000_000),
    _of_torchaudio("hubert-large", "hubert_fairseq_large_ll60k.pth", 1_260_000_000),
    _of_torchaudio("wavlm-base", "wavlm_base.pth", 378_000_000),
    _of_torchaudio("wavlm-base-plus", "wavlm_base_plus.pth", 378_000_000),
    _of_torchaudio("wavlm-large", "wavlm_large.pth", 1_260_000_000),
    _of_openai(
        "whisper-tiny.en",
        "d3dd57d32accea0b295c96e26691aa14d8822fac7d9d27d5dc00b4ca2826dd03",
        75_600_000,
        "whisper-tiny",
    ),
    _of_openai(
        "whisper-tiny",
        "65147644a518d12f04e32d6f3b26facc3f8dd46e5390956a9424a650c0ce22b9",
        75_600_000,
    ),
    _of_openai(
        "whisper-base",
        "ed3a0b6b1c0edf879ad9b11b1af5a0e6ab5db9205f891f668f8b0e6c6326e34e",
        145_000_000,
    ),
    _of_openai(
        "whisper-small",
        "9ecf779972d90ba49c06d968637d720dd632c55bbf19d441fb42bf17a411e794",
        484_000_000,
    ),
    _of_openai(
        "whisper-medium",
        "345ae4da62f9b3d59415adc60127b97c714f32e89e936602e85993674d08dcb1",
        1_530_000_000,
    ),
    _of_openai(
        "whisper-large-v2",
        "81f7c96c852ee8fc832187b0132e569d6c3065a3252ed18e56effd0b6a73e524",
        3_090_000_000,
    ),
    _of_openai(
        "whisper-large-v3",
        "e5b1a55b89c1367dacf97e3e19bfd829a01529dbfdeefa8caeb59b3f1b81dadb",
        3_090_000_000,
    ),
)

ENCODERS: Mapping[str, EncoderEntry] = MappingProxyType({entry.name: entry for entry in _ENTRIES})
"""Encoders on record by name."""


def user_encoders() -> Path:
    """Folder of the encoders that were pulled, beside the user's models; it need not exist."""
    from voiceguard.detect.registry import user_models

    return user_models().parent / "encoders"


def encoder_entry(name: str) -> EncoderEntry:
    """Look up an encoder on record.

    Raises
    ------
    UnknownModelError
        If there is none of that name; the message names close matches.
    """
    if name in ENCODERS:
        return ENCODERS[name]
    close = difflib.get_close_matches(name, ENCODERS, n=3)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise UnknownModelError(
        f"There is no encoder {name!r}, on record or as a file or folder.{hint} On record: "
        f"{', '.join(ENCODERS)}."
    )


def pulled_file(entry: EncoderEntry) -> Path:
    """File of an encoder that was pulled.

    Raises
    ------
    UnknownModelError
        If it is not on this machine; the message says how to fetch it.
    """
    path = _target(entry)
    if not path.is_file():
        raise UnknownModelError(
            f"The encoder {entry.name!r} is on record but not on this machine. Fetch it with: "
            f"voiceguard models pull {entry.name}"
        )
    return path


def pull_encoder(
    name: str,
    *,
    progress: Callable[[int, int], None] | None = None,
    opener: Opener | None = None,
) -> Pulled:
    """Fetch an encoder on record. Uses the network.

    Parameters
    ----------
    name : str
        One of :data:`ENCODERS`.
    progress : callable, optional
        Called with the bytes received so far and the bytes expected, about.
    opener : callable, optional
        Opens a URL: gives a context manager whose value has ``read(n)``; by default
        ``urllib.request.urlopen`` with a timeout.

    Returns
    -------
    Pulled
        Look at ``verified``. A file that is there already is not fetched again.

    Raises
    ------
    UnknownModelError
        If the name is not on record.
    ModelError
        If the file cannot be fetched or is far larger than the one on record.
    IntegrityError
        If a SHA-256 is published and the file has another; nothing is kept.
    """
    entry = encoder_entry(name)
    target = _target(entry)
    if target.is_file():
        sha256 = _checked(entry, _hash_of(target))
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = target.with_name(f".{target.name}.part")
        try:
            sha256 = _checked(entry, _fetch(entry, scratch, progress=progress, opener=opener))
            scratch.replace(target)
        finally:
            scratch.unlink(missing_ok=True)
    return Pulled(target, sha256, entry.verified)


def _target(entry: EncoderEntry) -> Path:
    return user_encoders() / entry.name / entry.file_name


def _fetch(
    entry: EncoderEntry,
    file: Path,
    *,
    progress: Callable[[int, int], None] | None,
    opener: Opener | None,
) -> str:
    """Download an encoder; the SHA-256 of what came."""
    most = int(entry.size * _SLACK)
    received = download(
        entry.url,
        file,
        limit=most,
        expected=entry.size,
        name=entry.name,
        otherwise=f"load it by its path with architecture={entry.architecture!r}.",
        progress=progress,
        opener=opener,
    )
    if received.size > most:
        raise ModelError(f"{entry.url} gives more than {most} bytes; nothing was kept.")
    return received.sha256


def _hash_of(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _checked(entry: EncoderEntry, found: str) -> str:
    """The SHA-256 that was found, where none other is published."""
    if entry.sha256 is not None and found != entry.sha256:
        raise IntegrityError(
            f"The file of {entry.name!r} has SHA-256 {found}; {entry.sha256} is published. Do not "
            "use it: remove it and fetch it again, and report it if it stays so."
        )
    return found
