"""What the first bytes say: a closed list of containers, so that only known ones reach a decoder.

FFmpeg's own probing would also take playlists and session descriptions, which name other files and
hosts to open; it never sees bytes that are not on this list, and is told which demuxer to use.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

HEAD_BYTES = 64 * 1024
"""Bytes of the start that :func:`sniff` likes to see (an ID3 tag may stand before the audio)."""


@dataclass(frozen=True)
class Container:
    """A container and who reads it.

    Parameters
    ----------
    name : str
        Its short name.
    libsndfile : bool
        Whether libsndfile is tried first.
    ffmpeg : str or None
        The demuxer that PyAV is told to use, or None where it is not tried.
    weak : bool
        Whether so few bits tell it that headerless data may look the same.
    """

    name: str
    libsndfile: bool
    ffmpeg: str | None
    weak: bool = False


@dataclass(frozen=True)
class Headerless:
    """A raw coding that only a file's extension tells.

    Parameters
    ----------
    coding : str
        ulaw, alaw, gsm, pcm_16 (little-endian), g722.
    sample_rate : int
        Hz.
    """

    coding: str
    sample_rate: int


_MAGIC: tuple[tuple[int, bytes, Container], ...] = (
    (0, b"RIFF", Container("wav", True, "wav")),
    (0, b"RIFX", Container("wav", True, None)),
    (0, b"RF64", Container("rf64", True, "wav")),
    (0, b"riff\x2e\x91\xcf\x11", Container("w64", True, "w64")),
    (0, b"fLaC", Container("flac", True, "flac")),
    (0, b"OggS", Container("ogg", True, "ogg")),
    (0, b"FORM", Container("aiff", True, "aiff")),
    (0, b".snd", Container("au", True, "au")),
    (0, b"dns.", Container("au", True, None)),
    (0, b"caff", Container("caf", True, "caf")),
    (0, b"NIST_1A", Container("nist", True, None)),
    (0, b"Creative Voice File", Container("voc", True, "voc")),
    (4, b"ftyp", Container("mov", False, "mov")),
    (4, b"moov", Container("mov", False, "mov")),
    (0, b"\x1a\x45\xdf\xa3", Container("matroska", False, "matroska")),
    (0, b"#!AMR", Container("amr", False, "amr")),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", Container("asf", False, "asf")),
)

_MP3 = Container("mp3", True, "mp3", weak=True)
_ADTS = Container("aac", False, "aac", weak=True)
_AVI = Container("avi", False, "avi")

HEADERLESS: dict[str, Headerless] = {
    **dict.fromkeys((".ulaw", ".ul", ".mulaw", ".mu", ".pcmu"), Headerless("ulaw", 8_000)),
    **dict.fromkeys((".alaw", ".al", ".pcma"), Headerless("alaw", 8_000)),
    ".gsm": Headerless("gsm", 8_000),
    ".g722": Headerless("g722", 16_000),
    **dict.fromkeys((".sln", ".slin"), Headerless("pcm_16", 8_000)),
    **{
        f".{stem}{khz}": Headerless("pcm_16", rate)
        for stem in ("sln", "slin")
        for khz, rate in (
            (12, 12_000), (16, 16_000), (24, 24_000), (32, 32_000), (44, 44_100), (48, 48_000),
            (96, 96_000), (192, 192_000),
        )
    },
}  # fmt: skip
"""Extension to raw coding. The rates of .sln* are Asterisk's."""


def sniff(head: bytes) -> Container | None:
    """Name the container from the first bytes, or give None.

    Parameters
    ----------
    head : bytes
        The first bytes; up to `HEAD_BYTES` of them are of use.

    Returns
    -------
    Container or None
    """
    body = head[_id3_length(head) :]
    if body[:4] == b"RIFF" and body[8:12] == b"AVI ":
        return _AVI
    for offset, magic, container in _MAGIC:
        if body[offset : offset + len(magic)] == magic:
            return container
    if len(body) < len(head) and not body:
        # The tag is longer than what was read; MP3 is what such tags stand before.
        return _MP3
    return _mpeg(body)


def headerless(name: str | None) -> Headerless | None:
    """Name the raw coding from a file name's extension, or give None."""
    return None if name is None else HEADERLESS.get(PurePath(name).suffix.lower())


def _id3_length(head: bytes) -> int:
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    # The tag's length is four times seven bits, without its ten bytes of header.
    return 10 + sum(
        (byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True)
    )


def _mpeg(body: bytes) -> Container | None:
    if len(body) < 4 or body[0] != 0xFF:
        return None
    if body[1] & 0xF6 == 0xF0:
        return _ADTS
    synced = body[1] & 0xE0 == 0xE0 and body[1] & 0x18 != 0x08 and body[1] & 0x06 != 0
    plausible = body[2] & 0xF0 != 0xF0 and body[2] & 0x0C != 0x0C
    return _MP3 if synced and plausible else None
