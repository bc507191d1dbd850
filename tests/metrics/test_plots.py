"""Plots: files of the right kind, no global state, helpful refusals."""

from __future__ import annotations

import subprocess
import sys

import pytest

from voiceguard import metrics
from voiceguard.errors import MetricError, MissingExtraError, ParameterError

BONAFIDE, SPOOF = [2.0, 1.0, 0.4, 3.0], [-1.0, 0.0, 0.5, -2.0]
START = {".png": b"\x89PNG", ".svg": b"<?xml"}


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_files_are_of_the_kind_asked_for(tmp_path, suffix):
    pytest.importorskip("matplotlib")
    det = metrics.plot_det({"a": (BONAFIDE, SPOOF)}, tmp_path / f"det{suffix}")
    scores = metrics.plot_scores(BONAFIDE, SPOOF, tmp_path / f"scores{suffix}", threshold=0.4)
    for path in (det, scores):
        assert path.read_bytes().startswith(START[suffix])


def test_svg_carries_names_and_rates(tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        path = metrics.plot_det(
            {"ours": (BONAFIDE, SPOOF), "split": ([2, 3], [0, 1])}, tmp_path / "det.svg"
        )
    text = path.read_text()
    assert "ours: EER 25.00%" in text
    assert "split: EER 0.00%" in text
    assert "miss: bona fide rejected (%)" in text


def test_refusals(tmp_path):
    with pytest.raises(ParameterError, match=r"must end in .png or .svg. Got 'det.pdf'"):
        metrics.plot_det({"a": (BONAFIDE, SPOOF)}, "det.pdf")
    with pytest.raises(MetricError, match="at least one system"):
        metrics.plot_det({}, tmp_path / "det.png")
    pytest.importorskip("matplotlib")
    with pytest.raises(MetricError, match="cannot be written"):
        metrics.plot_scores(BONAFIDE, SPOOF, tmp_path / "absent" / "scores.png")


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r'pip install "voiceguard\[plots\]"'):
        metrics.plot_scores(BONAFIDE, SPOOF, tmp_path / "scores.png")


def test_metrics_and_protocols_import_numpy_alone():
    code = (
        "import sys, voiceguard.metrics as m, voiceguard.protocols\n"
        "m.eer([1.0], [0.0]), m.min_cllr([1.0], [0.0])\n"
        "heavy = 'torch torchaudio scipy sklearn matplotlib librosa onnxruntime'.split()\n"
        "loaded = [name for name in heavy if name in sys.modules]\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
