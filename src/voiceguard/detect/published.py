"""Published checkpoints on record, and fetching one of them.

Nothing is fetched but by :func:`voiceguard.detect.registry.pull`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from voiceguard._download import Opener, Received, download
from voiceguard.errors import IntegrityError

_AUTHORS = "https://raw.githubusercontent.com/clovaai/aasist/main/models/weights/"


@dataclass(frozen=True)
class RegistryEntry:
    """A published checkpoint that can be fetched and converted.

    Parameters
    ----------
    name : str
        Name of the model here.
    url : str
        Where its authors publish it.
    sha256 : str
        SHA-256 of the file, lower case hex.
    size : int
        Its size, bytes.
    licence : str
        SPDX identifier.
    kind, variant : str
        What :func:`voiceguard.importers.import_checkpoint` takes.
    description : str
        One sentence.
    """

    name: str
    url: str
    sha256: str
    size: int
    licence: str
    kind: str
    variant: str
    description: str


ENTRIES: tuple[RegistryEntry, ...] = (
    RegistryEntry(
        name="aasist",
        url=_AUTHORS + "AASIST.pth",
        sha256="51d2d9cf0738172f61e2a384ec50a54a55363240f67c971ed55a92435bc1a1c0",
        size=1_281_532,
        licence="MIT",
        kind="aasist",
        variant="aasist",
        description="AASIST as published, trained on ASVspoof 2019 LA; uncalibrated.",
    ),
    RegistryEntry(
        name="aasist-l",
        url=_AUTHORS + "AASIST-L.pth",
        sha256="814331d088032bb4c3fa61cc014789eadeed464209dd094ab3a2dd6ffbdce27a",
        size=426_428,
        licence="MIT",
        kind="aasist",
        variant="aasist-l",
        description="AASIST-L as published, trained on ASVspoof 2019 LA; uncalibrated.",
    ),
)
"""The published checkpoints on record."""


def fetch(
    wanted: RegistryEntry,
    file: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
    opener: Opener | None = None,
) -> None:
    """Download a checkpoint and compare size and hash with the record.

    Parameters
    ----------
    wanted : RegistryEntry
    file : Path
        Where to write it.
    progress, opener
        As for :func:`voiceguard.detect.registry.pull`.

    Raises
    ------
    ModelError
        If the file cannot be fetched.
    IntegrityError
        If the file that came is not the one on record.
    """
    received = download(
        wanted.url,
        file,
        limit=wanted.size,
        expected=wanted.size,
        name=wanted.name,
        otherwise=f"run: voiceguard models import {wanted.kind} FILE --out DIR",
        progress=progress,
        opener=opener,
    )
    _compare(wanted, received)


def _compare(wanted: RegistryEntry, received: Received) -> None:
    size, digest = received.size, received.sha256
    if size != wanted.size:
        found = f"{size} bytes" if size < wanted.size else f"over {wanted.size} bytes"
        raise IntegrityError(
            f"{wanted.url} gave {found}; {wanted.name!r} has {wanted.size}. Nothing was kept; "
            "try again, and report it if it stays so."
        )
    if digest != wanted.sha256:
        raise IntegrityError(
            f"{wanted.url} gave a file with SHA-256 {digest}; {wanted.name!r} has "
            f"{wanted.sha256}. Nothing was kept; report it if it stays so."
        )
