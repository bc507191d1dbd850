"""The README's first screen does what it says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def _blocks(language):
    text = (ROOT / "README.md").read_text("utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_the_first_command_scores_the_examples():
    command = next(line for line in _blocks("sh")[0].splitlines() if "voiceguard score" in line)
    arguments = command.split("voiceguard ", 1)[1].split()
    done = subprocess.run(
        [sys.executable, "-m", "voiceguard", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in ("human_ru", "human_en", "synthetic_en"):
        assert name in done.stdout


def test_the_python_start_runs():
    code = _blocks("python")[0]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["label"] == "spoof"


def test_ci_calls_the_test_command():
    assert re.search(r"^pytest$", (ROOT / ".ci" / "run").read_text("utf-8"), flags=re.MULTILINE)
    assert any("pytest" in block for block in _blocks("sh"))
