"""The command line as a user meets it: arguments in; exit code, output and errors out."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from voiceguard.cli.app import main
from voiceguard.detect import registry


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of the bundled models; the user's is empty too."""
    folder = tmp_path / "package"
    folder.mkdir()
    monkeypatch.setattr(registry, "bundled_models", lambda: folder)
    monkeypatch.setenv("VOICEGUARD_HOME", str(tmp_path / "home"))
    return folder


@pytest.fixture
def model(bundled: Path, calibrated: Path) -> Path:
    """The calibrated tiny model, bundled."""
    return calibrated.rename(bundled / "tiny")


@pytest.fixture
def command(
    bundled: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """Run the command line; with ``terminal=True`` as if a terminal stood at both outputs.

    With ``bar=True`` it stands at standard error alone, as where the rows go to a file.
    """
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")

    def run(*arguments: object, terminal: bool = False, bar: bool = False) -> Outcome:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal or bar)
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture
def wav(tmp_path: Path, voice: Callable[..., np.ndarray]) -> Callable[..., Path]:
    """Write a recording that the tiny model gives the score asked for; None for silence."""
    soundfile = pytest.importorskip("soundfile")

    def write(name: str, score: float | None, seconds: float = 2.0) -> Path:
        path = tmp_path / "calls" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        x = np.zeros(int(seconds * 16_000)) if score is None else voice(seconds, score)
        out = io.BytesIO()
        soundfile.write(out, x, 16_000, format="WAV", subtype="FLOAT")
        path.write_bytes(out.getvalue())
        return path

    return write
