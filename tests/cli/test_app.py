"""The application: help, version, wrong usage, interrupts and closed pipes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import voiceguard
from voiceguard.cli import app
from voiceguard.detect.detector import Detector


def test_version(command):
    assert command("--version") == (0, f"voiceguard {voiceguard.__version__}\n", "")


def test_help_lists_every_command(command):
    outcome = command("--help")
    assert outcome.code == 0
    assert all(name in outcome.out for name in app.COMMANDS)


@pytest.mark.parametrize("name", app.COMMANDS)
def test_every_command_has_help(command, name):
    outcome = command(name, "--help")
    assert outcome.code == 0
    assert "Usage: voiceguard " + name in outcome.out


def test_the_help_of_score_tells_its_exit_codes(command):
    text = " ".join(command("score", "--help").out.split())
    assert all(f"{code}:" in text or f"code {code}" in text for code in (0, 1, 2))


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["scroe"], "score"),
        (["score", "--modle", "x"], "--model"),
        (["score"], "Missing argument"),
        (["score", "x", "--format", "xml"], "jsonl"),
        (["score", "x", "--threads", "0"], "--threads"),
    ],
)
def test_wrong_usage_is_helped(command, arguments, hint):
    outcome = command(*arguments)
    assert outcome.code == 2
    assert hint in outcome.err
    assert "Traceback" not in outcome.err


def test_an_interrupt_is_quiet(command, monkeypatch):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Detector, "load", interrupted)
    outcome = command("score", "x")
    assert outcome.code == 130
    assert "Traceback" not in outcome.err


def test_a_fault_of_our_own_is_not_hidden(command, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Detector, "load", broken)
    with pytest.raises(ZeroDivisionError):
        command("score", "x")


@pytest.mark.parametrize("arguments", [["models", "list"], ["models", "list", "--json"]])
def test_a_reader_that_goes_away_is_no_fault(arguments):
    reading, writing = os.pipe()
    os.close(reading)
    code = "import sys; from voiceguard.cli.app import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert done.stderr == ""
    assert done.returncode == 141


def test_the_console_script_leads_here():
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name="voiceguard")
    assert script.load() is app.main
