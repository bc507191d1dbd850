"""The encoders on record, and fetching one without a network."""

import hashlib
import io
import subprocess
import sys

import pytest
import torch

from voiceguard.errors import IntegrityError, ModelError, UnknownModelError
from voiceguard.features.ssl import ENCODERS, load_encoder, registry
from voiceguard.features.ssl.torchaudio_encoders import WaveEncoder
from voiceguard.features.ssl.wave_config import WAVE_CONFIGS
from voiceguard.features.ssl.whisper import WHISPER_CONFIGS

BUILDERS = {
    "wav2vec2-base": "wav2vec2_base",
    "wav2vec2-large": "wav2vec2_large",
    "wav2vec2-large-lv60": "wav2vec2_large_lv60k",
    "xlsr-53": "wav2vec2_large_lv60k",
    "xls-r-300m": "wav2vec2_xlsr_300m",
    "xls-r-1b": "wav2vec2_xlsr_1b",
    "hubert-base": "hubert_base",
    "hubert-large": "hubert_large",
    "wavlm-base": "wavlm_base",
    "wavlm-base-plus": "wavlm_base",
    "wavlm-large": "wavlm_large",
}


@pytest.mark.parametrize("name", WAVE_CONFIGS)
def test_published_networks_are_torchaudios(name):
    """Same tensors; the size on record is theirs in float32."""
    import torchaudio

    with torch.device("meta"):
        theirs = getattr(torchaudio.models, BUILDERS[name])()
        ours = WaveEncoder(WAVE_CONFIGS[name], layers=[-1])
    expected = {key: tensor.shape for key, tensor in theirs.state_dict().items()}
    assert {k: t.shape for k, t in ours.network.state_dict().items()} == expected
    assert ENCODERS[name].size == pytest.approx(
        4 * sum(map(torch.Size.numel, expected.values())), rel=0.01
    )


@pytest.mark.parametrize("name", ["XLSR_300M", "XLSR_1B", "XLSR53", "LARGE", "BASE"])
def test_addresses_and_normalisation_are_torchaudios(name):
    from torchaudio import pipelines

    bundle = getattr(pipelines, f"WAV2VEC2_{name}")
    (entry,) = [e for e in ENCODERS.values() if e.file_name == bundle._path]
    assert WAVE_CONFIGS[entry.architecture].normalize is bundle._normalize_waveform


def test_every_entry_says_what_is_known():
    assert {*WAVE_CONFIGS, *WHISPER_CONFIGS} <= set(ENCODERS)
    for entry in ENCODERS.values():
        assert entry.url.startswith("https://") and entry.licence == "MIT" and entry.size > 0
        assert entry.architecture in {*WAVE_CONFIGS, *WHISPER_CONFIGS}
        # OpenAI puts the hash into the address; torchaudio publishes none.
        assert entry.verified is entry.name.startswith("whisper")
        if entry.sha256 is not None:
            assert len(bytes.fromhex(entry.sha256)) == 32
            assert f"/{entry.sha256}/" in entry.url


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("VOICEGUARD_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def on_record(monkeypatch):
    """Replace an entry's size and hash."""

    def put(name, **values):
        from dataclasses import replace

        entries = {**ENCODERS, name: replace(ENCODERS[name], **values)}
        monkeypatch.setattr(registry, "ENCODERS", entries)

    return put


def test_an_encoder_that_was_not_pulled_says_how(home):
    with pytest.raises(UnknownModelError, match="voiceguard models pull xls-r-300m"):
        load_encoder("xls-r-300m")


def test_an_unknown_name_says_what_is_close(home):
    with pytest.raises(UnknownModelError, match="'xls-r-300m'"):
        load_encoder("xlsr-300m")


def test_without_a_published_hash_it_is_unverified(home, on_record):
    on_record("wavlm-base", size=1000)
    asked = []

    def opener(url):
        asked.append(url)
        return io.BytesIO(b"w" * 1000)

    progress = []
    pulled = registry.pull_encoder(
        "wavlm-base", opener=opener, progress=lambda got, size: progress.append((got, size))
    )
    assert not pulled.verified
    assert pulled.sha256 == hashlib.sha256(b"w" * 1000).hexdigest()
    assert pulled.path == home / "encoders" / "wavlm-base" / "wavlm_base.pth"
    assert progress == [(1000, 1000)]
    registry.pull_encoder("wavlm-base", opener=opener)
    assert asked == [ENCODERS["wavlm-base"].url]


def test_a_file_with_another_hash_is_not_kept(home, on_record):
    on_record("whisper-tiny", size=1000)
    with pytest.raises(IntegrityError, match="published"):
        registry.pull_encoder("whisper-tiny", opener=lambda url: io.BytesIO(b"w" * 1000))
    assert not any(path.is_file() for path in home.rglob("*"))


def test_a_file_that_was_changed_later_is_not_read(home, on_record):
    content = b"w" * 1000
    on_record("whisper-tiny", size=1000, sha256=hashlib.sha256(content).hexdigest())
    pulled = registry.pull_encoder("whisper-tiny", opener=lambda url: io.BytesIO(content))
    assert pulled.verified
    pulled.path.write_bytes(b"v" * 1000)
    with pytest.raises(IntegrityError):
        load_encoder("whisper-tiny")


def test_a_file_far_too_large_or_out_of_reach_is_not_kept(home, on_record):
    on_record("wavlm-base", size=1000)
    with pytest.raises(ModelError, match="more than 1050 bytes"):
        registry.pull_encoder("wavlm-base", opener=lambda url: io.BytesIO(bytes(5000)))

    def fail(url):
        raise OSError("no route")

    with pytest.raises(ModelError, match="architecture='wavlm-base'"):
        registry.pull_encoder("wavlm-base", opener=fail)
    assert not any(path.is_file() for path in home.rglob("*"))


def test_the_record_is_read_without_torch():
    code = (
        "import sys; from voiceguard.features.ssl.registry import ENCODERS; "
        "import voiceguard.features.ssl.converting; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
