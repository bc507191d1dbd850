"""Converting and pulling from the command line."""

import io

import pytest

from voiceguard import _download
from voiceguard.cli.app import main
from voiceguard.errors import ModelError, UnknownModelError
from voiceguard.features.ssl import load_encoder
from voiceguard.features.ssl.converting import import_encoder


def test_an_unknown_kind_names_the_known_ones(tmp_path):
    with pytest.raises(UnknownModelError, match="whisper-ct2, distillmos"):
        import_encoder("moonshine", tmp_path, out=tmp_path)


@pytest.mark.parametrize("kind", ["whisper-ct2", "distillmos"])
def test_an_absent_file_is_refused(tmp_path, kind):
    with pytest.raises(ModelError, match="does not exist"):
        import_encoder(kind, tmp_path / "absent", out=tmp_path)


def test_the_command_line_converts(tmp_path, capsys):
    distillmos = pytest.importorskip("distillmos.sqa", reason="it carries the weights")
    out = tmp_path / "d.safetensors"
    source = distillmos.DEFAULT_WEIGHTS_CHKPT
    assert main(["models", "import", "distillmos", source, "--out", str(out)]) == 0
    assert "load_encoder" in capsys.readouterr().out
    assert load_encoder(out).architecture == "distillmos"


def test_the_command_line_says_aloud_what_is_unverified(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("VOICEGUARD_HOME", str(tmp_path))
    monkeypatch.setattr(_download, "_open", lambda url: io.BytesIO(b"weights"))
    assert main(["models", "pull", "wavlm-base"]) == 0
    assert "UNVERIFIED" in capsys.readouterr().out
    assert main(["models", "pull", "whisper-tiny"]) == 2
    assert "published" in capsys.readouterr().err
