"""``voiceguard models``: what there is, and whether it is whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from voiceguard.features.ssl.registry import ENCODERS, user_encoders

FIXTURES = Path(__file__).parents[2].parent / "shared" / "fixtures" / "aasist"


def pulled_path(name):
    return user_encoders() / name / ENCODERS[name].file_name


def test_list(command, model):
    outcome = command("models", "list")
    assert outcome.code == 0
    for word in ("tiny", "bundled", "aasist-l", "on record", "voiceguard models pull"):
        assert word in outcome.out


def test_list_as_json(command, model):
    rows = {row["name"]: row for row in json.loads(command("models", "list", "--json").out)}
    assert rows["tiny"]["calibrated"] is True
    assert rows["tiny"]["folder"] == str(model)
    assert rows["tiny"]["default_for"] == ["files", "live"]
    assert rows["aasist"]["origin"] == "on record"
    assert rows["aasist"]["default_for"] == []


def test_list_says_which_default_is_whose(command, model):
    for name in ("vg-base", "vg-small"):
        shutil.copytree(model, model.with_name(name))
    rows = {row["name"]: row for row in json.loads(command("models", "list", "--json").out)}
    wanted = {"tiny": [], "vg-base": ["files"], "vg-small": ["live"]}
    assert {name: rows[name]["default_for"] for name in wanted} == wanted


def test_encoders_are_listed_with_what_was_pulled(command, model):
    file = pulled_path("whisper-tiny.en")
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    listed = json.loads(command("models", "list", "--json").out)
    rows = {row["name"]: row for row in listed if row["kind"] == "encoder"}
    assert set(rows) == set(ENCODERS)
    assert rows["whisper-tiny.en"]["origin"] == "user"
    assert rows["whisper-tiny.en"]["folder"] == str(file.parent)
    assert rows["wavlm-large"]["origin"] == "on record"
    assert rows["wavlm-large"]["folder"] is None
    assert "wavlm-large" in command("models", "list").out


def test_list_survives_a_broken_model(command, model):
    (model / "bundle.json").write_text("{}")
    assert "broken" in command("models", "list").out


def test_info(command, model):
    outcome = command("models", "info", "tiny")
    assert outcome.code == 0
    for word in ("tiny 1", "SHA-256", "1.00 s every 0.50 s", "balanced (default)", "# tiny"):
        assert word in outcome.out
    plain = json.loads(command("models", "info", model, "--json").out)
    assert plain["id"] == "tiny"
    assert plain["card"] == "# tiny\n"


def test_verify(command, model):
    whole = command("models", "verify")
    assert whole.code == 0
    assert whole.out.startswith("whole   tiny 1 ")
    (model / "CARD.md").write_text("changed")
    broken = command("models", "verify", "tiny")
    assert broken.code == 1
    assert broken.out.startswith("broken  tiny")
    assert "SHA-256" in broken.out


def test_verify_with_nothing_there(command):
    outcome = command("models", "verify")
    assert outcome.code == 0
    assert "no model" in outcome.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "tinny"], "Did you mean 'tiny'"),
        (["pull", "asist"], "Did you mean 'aasist'"),
        (["import", "rawnet", "x.pth", "--out", "y"], "rawnet"),
        (["import", "aasist", "absent.pth", "--out", "y"], "absent.pth"),
    ],
)
def test_user_errors_are_one_line(command, model, arguments, message):
    outcome = command("models", *arguments)
    assert outcome.code == 2
    assert outcome.err.startswith("Error: ")
    assert outcome.err.count("\n") == 1
    assert message in outcome.err


@pytest.mark.slow
def test_import_of_a_published_checkpoint(command, tmp_path, wav):
    for module in ("torch", "onnx", "safetensors"):
        pytest.importorskip(module, reason="converting needs the train extra")
    file = FIXTURES / "AASIST-L.pth"
    if not file.is_file():
        pytest.skip(f"the published checkpoint is not at {file}")
    out = tmp_path / "mine"
    outcome = command("models", "import", "aasist", file, "--out", out)
    assert outcome.code == 0
    assert "calibration none" in outcome.out
    scored = command("score", wav("a.wav", 0.0, seconds=4.0), "--model", out)
    row = json.loads(scored.out)
    assert row["score"] is not None
    assert row["llr"] is None
    assert any("uncalibrated" in warning for warning in row["warnings"])
