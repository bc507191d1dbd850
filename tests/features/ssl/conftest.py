"""Small networks of transformers with random weights, saved as their authors would."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}


def stirred(model):
    """Move every weight, so that no bias is zero and no norm is plain."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """Make (model of transformers, folder in the Hugging Face layout) of a family and a form."""
    transformers = pytest.importorskip("transformers", reason="the oracle is transformers")
    families = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert", "wavlm": "WavLM"}
    made = {}

    def make(family, form="base"):
        if (family, form) not in made:
            torch.manual_seed(len(made))
            stem = families[family]
            config = getattr(transformers, f"{stem}Config")(
                **SMALL, **(LARGE if form == "large" else {})
            )
            model = stirred(getattr(transformers, f"{stem}Model")(config))
            folder = tmp_path_factory.mktemp(f"{family}-{form}")
            model.save_pretrained(folder)
            made[family, form] = (model, folder)
        return made[family, form]

    return make


@pytest.fixture(scope="session")
def whisper(tmp_path_factory):
    """A small Whisper with its decoder and a window of 4 s: (model of transformers, folder)."""
    transformers = pytest.importorskip("transformers", reason="the oracle is transformers")
    torch.manual_seed(7)
    config = transformers.WhisperConfig(
        d_model=128,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_source_positions=200,
        vocab_size=60,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    model = stirred(transformers.WhisperForConditionalGeneration(config))
    folder = tmp_path_factory.mktemp("whisper")
    model.save_pretrained(folder)
    return model, folder


@pytest.fixture(scope="session")
def waveform():
    """Half a second and more of noise, two items [shape=(2, 9000)]."""
    noise = np.random.default_rng(3).normal(0.0, 0.1, (2, 9000))
    return torch.from_numpy(noise.astype(np.float32))


@pytest.fixture
def edited(tmp_path):
    """Copy a Hugging Face folder with other values in its config.json."""

    def edit(folder: Path, **values):
        target = tmp_path / "edited"
        target.mkdir()
        for file in folder.iterdir():
            (target / file.name).write_bytes(file.read_bytes())
        plain = json.loads((target / "config.json").read_text())
        (target / "config.json").write_text(json.dumps({**plain, **values}))
        return target

    return edit
