"""Layouts that load, and files that are refused."""

import argparse
import hashlib
import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from voiceguard.errors import BundleError, IntegrityError, ModelError, ParameterError
from voiceguard.features.ssl import load_encoder, save_encoder
from voiceguard.features.ssl.wave_config import WAVE_CONFIGS


@pytest.fixture
def weights(published):
    """(folder, file) of a small HuBERT."""
    folder = published("hubert", "large")[1]
    return folder, folder / "model.safetensors"


def to_fairseq(state):
    """torchaudio's names to fairseq's, by torchaudio's own map the other way."""
    pairs = (
        (r"\.layer_norm\.", ".LN."),
        (r"^(feature_extractor\.conv_layers\.\d+)\.LN\.", r"\1.2.1."),
        (r"^(feature_extractor\.conv_layers\.\d+)\.conv\.", r"\1.0."),
        (r"^encoder\.feature_projection\.projection", "post_extract_proj"),
        (r"^encoder\.feature_projection\.LN", "layer_norm"),
        (r"pos_conv_embed\.conv\.parametrizations\.weight\.original0", "pos_conv.0.weight_g"),
        (r"pos_conv_embed\.conv\.parametrizations\.weight\.original1", "pos_conv.0.weight_v"),
        (r"pos_conv_embed\.conv", "pos_conv.0"),
        (r"(layers\.\d+)\.LN", r"\1.self_attn_layer_norm"),
        (r"feed_forward\.intermediate_dense", "fc1"),
        (r"feed_forward\.output_dense", "fc2"),
        (r"(layers\.\d+)\.attention\.", r"\1.self_attn."),
        (r"encoder\.transformer\.", "encoder."),
        (r"\.LN\.", ".layer_norm."),
    )
    renamed = {}
    for key, value in state.items():
        for pattern, replacement in pairs:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    return renamed


def test_the_rename_of_this_test_is_undone_by_torchaudio(weights):
    from torchaudio.models.wav2vec2.utils.import_fairseq import _convert_state_dict

    state = load_encoder(weights[0]).network.state_dict()
    back = _convert_state_dict(to_fairseq(state))
    old = {k.replace("parametrizations.weight.original", "weight_"): k for k in state}
    assert {k.replace("weight_g", "weight_0").replace("weight_v", "weight_1") for k in back} == set(
        old
    )


@pytest.fixture
def size(weights, monkeypatch):
    """Put the small network among the published ones."""
    config = load_encoder(weights[0]).wave_config
    for module in ("wave_layouts", "loading"):
        monkeypatch.setattr(
            f"voiceguard.features.ssl.{module}.WAVE_CONFIGS", {**WAVE_CONFIGS, "small": config}
        )


LAYOUTS = ("torchaudio", "fairseq", "ssl-aasist", "half")


@pytest.mark.parametrize(
    ("layout", "architecture"), [("torchaudio", "small"), *((layout, None) for layout in LAYOUTS)]
)
def test_every_layout_gives_the_same_encoder(weights, size, tmp_path, layout, architecture):
    expected = load_encoder(weights[0])
    state = dict(expected.network.state_dict())
    extra = {"mask_emb": torch.zeros(3), "final_proj.weight": torch.zeros(3)}
    prefix = "module.ssl_model.model."
    whole = {
        "torchaudio": {**state, "aux.weight": torch.zeros(3)},
        "fairseq": {"model": {**to_fairseq(state), **extra}, "cfg": {"name": "x"}, "args": None},
        "ssl-aasist": {prefix + k: v for k, v in {**to_fairseq(state), **extra}.items()},
        "half": {k: v.half() for k, v in state.items()},
    }[layout]
    torch.save(whole, tmp_path / "weights.pt")
    encoder = load_encoder(tmp_path / "weights.pt", architecture=architecture)
    assert next(encoder.parameters()).dtype == torch.float32
    for key, tensor in encoder.network.state_dict().items():
        wanted = state[key].half().float() if layout == "half" else state[key]
        assert torch.equal(tensor, wanted), key


def test_fairseqs_wavlm_names(published, tmp_path):
    model, folder = published("wavlm", "base")
    expected = load_encoder(folder)
    renames = {
        "gru_rel_pos_linear": "grep_linear",
        "gru_rel_pos_const": "grep_a",
        "rel_attn_embed": "relative_attention_bias",
        ".attention.": ".self_attn.",
        "feature_projection.projection": "post_extract_proj",
        "feature_projection.layer_norm": "layer_norm",
        "encoder.pos_conv_embed.conv": "encoder.pos_conv.0",
        "feed_forward.intermediate_dense": "fc1",
        "feed_forward.output_dense": "fc2",
    }
    state = {}
    for key, value in model.state_dict().items():
        key = re.sub(r"(conv_layers\.\d+)\.layer_norm", r"\1.2", key)
        key = re.sub(r"(conv_layers\.\d+)\.conv", r"\1.0", key)
        key = re.sub(r"(encoder\.layers\.\d+)\.layer_norm", r"\1.self_attn_layer_norm", key)
        for theirs, fairseq in renames.items():
            key = key.replace(theirs, fairseq)
        state["mask_emb" if key == "masked_spec_embed" else key] = value
    from voiceguard.features.ssl.wave_layouts import fill, to_torchaudio

    found = fill(expected.wave_config, to_torchaudio(state, name="w.pt"), name="w.pt")
    assert found.fingerprint() == expected.fingerprint()


def test_a_model_with_a_head_and_a_pickled_one_load(weights, tmp_path):
    expected = load_encoder(weights[0])
    state = {f"hubert.{k}": v for k, v in load_file(weights[1]).items()}
    torch.save({**state, "lm_head.bias": torch.zeros(3)}, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_bytes((weights[0] / "config.json").read_bytes())
    assert load_encoder(tmp_path).fingerprint() == expected.fingerprint()


def test_a_saved_encoder_comes_back(weights, waveform, tmp_path):
    encoder = load_encoder(weights[0], layers=[2, 0], normalize=False)
    path = save_encoder(encoder, tmp_path / "mine.safetensors", provenance={"licence": "X"})
    again = load_encoder(path)
    assert again.fingerprint() == encoder.fingerprint()
    assert again.provenance["licence"] == "X"
    part = load_encoder(path, layers=[1])
    with torch.no_grad():
        expected = load_encoder(weights[0], layers=[1], normalize=False)(waveform).layers
        torch.testing.assert_close(part(waveform).layers, expected)
    with pytest.raises(BundleError, match="up to 2"):
        load_encoder(path, layers=[3])


def test_saving_under_another_suffix_is_refused(weights, tmp_path):
    with pytest.raises(ParameterError, match="safetensors"):
        save_encoder(load_encoder(weights[0]), tmp_path / "mine.pt")


def test_the_hash_is_compared_before_parsing(weights, tmp_path):
    (tmp_path / "w.pt").write_bytes(b"no archive at all")
    with pytest.raises(IntegrityError, match="was expected"):
        load_encoder(tmp_path / "w.pt", sha256="0" * 64)
    right = hashlib.sha256(weights[1].read_bytes()).hexdigest()
    assert load_encoder(weights[0], sha256=right.upper()).n_layers == 4


class Payload:
    def __reduce__(self):
        return (print, ("ran",))


def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, capsys):
    torch.save({"model": {}, "args": Payload()}, tmp_path / "w.pt")
    with pytest.raises(BundleError, match="could run code"):
        load_encoder(tmp_path / "w.pt")
    assert "ran" not in capsys.readouterr().out


def test_fairseqs_arguments_are_refused_with_the_way_out(tmp_path):
    torch.save({"model": {}, "args": argparse.Namespace(arch="wav2vec2")}, tmp_path / "w.pt")
    with pytest.raises(BundleError, match=r"keep the weights alone.*\['model'\]"):
        load_encoder(tmp_path / "w.pt")


@pytest.mark.parametrize("kept", [0, 7, 100, 0.5, 0.999])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_truncated_files_are_refused(weights, tmp_path, suffix, kept):
    path = tmp_path / f"w{suffix}"
    state = load_file(weights[1])
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    content = path.read_bytes()
    path.write_bytes(content[: kept if isinstance(kept, int) else int(len(content) * kept)])
    with pytest.raises(BundleError, match=r"damaged|truncated"):
        load_encoder(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("encoder.layer_norm.bias"), "Missing: encoder.transformer.layer_norm"),
        (lambda s: s.update({"encoder.extra": torch.zeros(1)}), "Unexpected: .*extra"),
        (lambda s: s.update({"decoder.extra": torch.zeros(1)}), "decoder.extra"),
        (lambda s: s.update({"encoder.layer_norm.bias": torch.zeros(5)}), r"\(5,\) for \(32,\)"),
        (lambda s: s["encoder.layer_norm.bias"].fill_(torch.nan), "NaN"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, tmp_path, change, message):
    state = load_file(weights[1])
    change(state)
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((weights[0] / "config.json").read_bytes())
    with pytest.raises(BundleError, match=message):
        load_encoder(tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "data2vec-audio"}, "model_type"),
        ({"hidden_act": "relu"}, "hidden_act"),
        ({"layer_norm_eps": 1e-12}, "layer_norm_eps"),
        ({"add_adapter": True}, "add_adapter"),
        ({"num_attention_heads": 5}, "multiple of heads"),
        ({"hidden_size": "wide"}, "'dim' parameter"),
        ({"conv_kernel": [10, 3]}, "conv_kernels"),
    ],
)
def test_configs_of_other_networks_are_refused(weights, edited, values, message):
    with pytest.raises(BundleError, match=message):
        load_encoder(edited(weights[0], **values))


def test_folders_that_hold_something_else_are_refused(tmp_path):
    with pytest.raises(BundleError, match=r"config\.json"):
        load_encoder(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(BundleError, match="JSON object"):
        load_encoder(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BundleError, match="none of"):
        load_encoder(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(BundleError, match="several pieces"):
        load_encoder(tmp_path)
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(BundleError, match="models import whisper-ct2"):
        load_encoder(tmp_path)


@pytest.mark.parametrize(
    ("state", "message"),
    [({"a": torch.zeros(1)}, "known layouts"), ([1, 2], "state dict"), ({"a": 1}, "tensors only")],
)
def test_archives_that_hold_something_else_are_refused(tmp_path, state, message):
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(BundleError, match=message):
        load_encoder(tmp_path / "w.pt")


def test_other_suffixes_are_refused(tmp_path):
    (tmp_path / "w.onnx").write_bytes(b"x")
    with pytest.raises(BundleError, match="must end in"):
        load_encoder(tmp_path / "w.onnx")


def test_another_network_than_the_named_one_is_refused(weights, size, tmp_path):
    with pytest.raises(BundleError, match="another network than 'xls-r-300m'"):
        load_encoder(weights[0], architecture="xls-r-300m")
    torch.save(load_encoder(weights[0]).network.state_dict(), tmp_path / "w.pt")
    with pytest.raises(BundleError, match="does not fit"):
        load_encoder(tmp_path / "w.pt", architecture="hubert-base")


def test_unknown_shapes_need_a_config(weights, tmp_path):
    torch.save(load_encoder(weights[0]).network.state_dict(), tmp_path / "w.pt")
    with pytest.raises(BundleError, match="none of the published networks"):
        load_encoder(tmp_path / "w.pt")


@pytest.mark.parametrize(
    "options", [{"architecture": "xlsr"}, {"context_s": 4.0}, {"config": None}, {"norm": True}]
)
def test_unknown_options_are_refused(weights, options):
    with pytest.raises(ParameterError, match=next(iter(options))):
        load_encoder(weights[0], **options)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"architecture": "x"},
        {"layers": [9]},
        {"layers": None},
        {"config": {}},
        {"config": {"network": {"dim": 0}}},
        {"provenance": 1},
    ],
)
def test_damaged_headers_are_refused(weights, tmp_path, change):
    from voiceguard.features.ssl.native import HEADER
    from voiceguard.features.ssl.reading import read_safetensors

    path = save_encoder(load_encoder(weights[0]), tmp_path / "w.safetensors")
    state, header = read_safetensors(path)
    save_file(state, path, {HEADER: json.dumps({**json.loads(header[HEADER]), **change})})
    with pytest.raises(BundleError, match=r"header|format"):
        load_encoder(path)


def test_a_path_that_is_not_there_is_no_name_either(tmp_path):
    with pytest.raises(ModelError, match="no encoder"):
        load_encoder(tmp_path / "absent.pt")
