"""``voiceguard doctor``: sound is 0, broken is 1 and says what."""

from __future__ import annotations

import json
import shutil

import pytest

from voiceguard.cli import doctor


@pytest.fixture
def findings(command):
    def run():
        outcome = command("doctor", "--json")
        return outcome.code, {each["what"]: each for each in json.loads(outcome.out)}

    return run


def test_a_sound_installation(findings, model, command):
    code, found = findings()
    assert code == 0
    assert found["model tiny"]["ok"] is True
    assert found["self-test tiny"]["ok"] is True
    assert found["default for files"]["detail"] == found["default for live"]["detail"] == "tiny"
    assert "CPUExecutionProvider" in found["ONNX Runtime providers"]["detail"]
    assert "BROKEN" not in command("doctor").out


def test_without_a_model(findings):
    code, found = findings()
    assert code == 1
    for what in ("default for files", "default for live", "self-test"):
        assert found[what]["ok"] is False
    assert found["numpy"]["ok"] is True, "the other checks go on"


def test_a_damaged_model(findings, model, command):
    (model / "model.onnx").write_bytes(b"damaged")
    code, found = findings()
    assert code == 1
    assert "SHA-256" in found["model tiny"]["detail"]
    assert "BROKEN  self-test" in command("doctor").out


def test_a_missing_library(findings, model, monkeypatch):
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "soxr" else real(name))
    code, found = findings()
    assert code == 1
    assert found["soxr"]["detail"] == "missing"


def test_a_missing_extra_is_no_fault(findings, model, monkeypatch):
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "torch" else real(name))
    code, found = findings()
    assert code == 0
    assert "voiceguard[train]" in found["extra train"]["detail"]


def test_a_network_that_calls_silence_human(findings, model, monkeypatch):
    """The self-test must be able to fail."""
    from voiceguard.detect.engine import OnnxEngine

    run = OnnxEngine.run

    def leaking(self, windows):
        scores, embeddings = run(self, windows)
        return scores + len(windows), embeddings

    monkeypatch.setattr(OnnxEngine, "run", leaking)
    code, found = findings()
    assert code == 1
    assert "a batch changes a window's score" in found["self-test tiny"]["detail"]


def test_both_defaults_are_tested(findings, model):
    for name in ("vg-base", "vg-small"):
        shutil.copytree(model, model.with_name(name))
    (model.with_name("vg-small") / "model.onnx").write_bytes(b"damaged")
    code, found = findings()
    assert code == 1
    assert found["self-test vg-base"]["ok"] is True
    assert found["self-test vg-small"]["ok"] is False
    assert found["default for live"]["detail"] == "vg-small"
