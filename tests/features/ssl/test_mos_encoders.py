"""The convolutions of PLCMOS and DNSMOS against the graphs of the package that publishes them."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from voiceguard.errors import BundleError, ModelError, ParameterError
from voiceguard.features.ssl import load_encoder
from voiceguard.features.ssl.converting import import_encoder
from voiceguard.features.ssl.dnsmos import DNSMOSEncoder
from voiceguard.features.ssl.native import save_encoder
from voiceguard.features.ssl.plcmos import PLCMOSEncoder

onnx = pytest.importorskip("onnx")

GRAPHS = {
    "plcmos": "plcmos_models/plcmos_v2.onnx",
    "dnsmos": "dnsmos_models/model_v8.onnx",
}
KINDS = {"plcmos": PLCMOSEncoder, "dnsmos": DNSMOSEncoder}


@pytest.fixture(scope="session")
def published():
    """The folder of the package, which need not be importable."""
    found = importlib.util.find_spec("speechmos")
    if found is None or not found.submodule_search_locations:
        pytest.skip("speechmos is not installed: no published graphs")
    return Path(found.submodule_search_locations[0])


@pytest.fixture
def speech():
    rng = np.random.default_rng(0)
    envelope = np.abs(np.sin(np.arange(24_000) / 900.0)) ** 3
    x = 0.3 * envelope * rng.standard_normal((2, 24_000))
    x[:, 9_000:10_000] = 0.0
    return torch.from_numpy(np.clip(x, -1, 1).astype(np.float32))


@pytest.fixture(params=list(KINDS))
def encoder(request):
    torch.manual_seed(0)
    return KINDS[request.param]().eval()


def run_graph(file, spectrogram, entry, outputs):
    """What some nodes of a graph give."""
    import onnxruntime

    graph = onnx.utils.Extractor(onnx.shape_inference.infer_shapes(onnx.load(file)))
    part = graph.extract_model([entry], outputs)
    for value in (*part.graph.input, *part.graph.output):
        value.type.tensor_type.ClearField("shape")
    del part.graph.value_info[:]
    session = onnxruntime.InferenceSession(part.SerializeToString())
    return session.run(None, {entry: spectrogram.astype(np.float32)})


def as_frames(heard):
    """(batch, channels, frames, bands) to (batch, frames, bands * channels)."""
    return heard.transpose(0, 2, 3, 1).reshape(len(heard), heard.shape[2], -1)


def test_plcmos_gives_the_published_frames(published, speech, tmp_path):
    file = published / GRAPHS["plcmos"]
    encoder = load_encoder(import_encoder("plcmos", file, out=tmp_path))
    # As the package does it: a frame across the beginning, Hamming, ln of the power over 20.
    padded = np.pad(speech.numpy(), ((0, 0), (256, 0)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, 512, axis=1)[:, ::256]
    spectrum = np.fft.rfft(frames * np.hamming(513)[:-1])
    log_power = np.log(np.maximum(np.abs(spectrum) ** 2, 1e-9)) / 20.0
    names = ["input.4", "input.12", "input.20"]
    theirs = run_graph(file, log_power[:, None], "degraded_audio", names)
    with torch.no_grad():
        ours = encoder(speech).layers.numpy()
    assert ours.shape == (2, 4, 24_000 // 256 - 13, 2048)
    shown = ours.shape[2] - 4
    # One frame later, and without those that hear the padding.
    np.testing.assert_allclose(ours[:, 0, :shown, :257], log_power[:, 7 : 7 + shown], atol=1e-4)
    for layer, (first, heard) in enumerate(zip((6, 5, 4), theirs, strict=True), start=1):
        wanted = as_frames(heard)[:, first : first + shown]
        np.testing.assert_allclose(
            ours[:, layer, :shown, : wanted.shape[2]], wanted, atol=2e-3, rtol=1e-3
        )


def test_dnsmos_gives_the_published_frames(published, speech, tmp_path):
    import librosa

    file = published / GRAPHS["dnsmos"]
    encoder = load_encoder(import_encoder("dnsmos", file, out=tmp_path))
    mel = np.stack(
        [
            librosa.feature.melspectrogram(y=x, sr=16_000, n_fft=321, hop_length=160, n_mels=120)
            for x in speech.numpy()
        ]
    )
    decibels = np.stack([(librosa.power_to_db(x, ref=np.max) + 40) / 40 for x in mel])
    pooled = "mos_estimator_small_1/max_pooling2d_1/MaxPool_1_conv0"
    entry = decibels.transpose(0, 2, 1)[:, None]
    (theirs,) = run_graph(file, entry, "adjusted_input4", [pooled])
    with torch.no_grad():
        ours = encoder(speech).layers.numpy()
    assert ours.shape == (2, 1, 150 // 4, 960)
    # librosa counts one frame more.
    np.testing.assert_allclose(ours[:, 0, :-1], as_frames(theirs)[:, :36], atol=1e-3)


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_conversion_says_where_it_came_from(published, kind, tmp_path):
    path = import_encoder(kind, published / GRAPHS[kind], out=tmp_path)
    encoder = load_encoder(path)
    assert path.name == f"{kind}.safetensors"
    assert encoder.architecture == kind
    assert encoder.provenance["licence"] == "MIT"
    assert encoder.provenance["source_file"] == Path(GRAPHS[kind]).name


@pytest.mark.parametrize("kind", list(KINDS))
def test_another_graph_is_refused(kind, tmp_path):
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    floats = onnx.TensorProto.FLOAT
    ends = [onnx.helper.make_tensor_value_info(name, floats, [1]) for name in "xy"]
    weight = onnx.helper.make_tensor("in_blocks.1.weight", floats, [1], [1.0])
    graph = onnx.helper.make_graph([node], "toy", ends[:1], ends[1:], [weight])
    file = tmp_path / "toy.onnx"
    onnx.save(onnx.helper.make_model(graph), file)
    with pytest.raises(BundleError, match="has none of its"):
        import_encoder(kind, file, out=tmp_path)
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(BundleError, match="damaged or no ONNX graph"):
        import_encoder(kind, file, out=tmp_path)
    with pytest.raises(ModelError, match="does not exist"):
        import_encoder(kind, tmp_path / "absent.onnx", out=tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_part_that_is_missing_is_named(published, kind, tmp_path):
    model = onnx.load(published / GRAPHS[kind])
    gone = {"plcmos": "in_blocks.0.conv2.bias", "dnsmos": "conv2d_6/bias:0"}[kind]
    kept = [each for each in model.graph.initializer if each.name != gone]
    assert len(kept) < len(model.graph.initializer)
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    onnx.save(model, tmp_path / "less.onnx")
    with pytest.raises(BundleError, match=r"Missing: convolutions\.1\.bias"):
        import_encoder(kind, tmp_path / "less.onnx", out=tmp_path)


def test_padding_is_not_heard(encoder, speech):
    padded = speech.clone()
    padded[1, 13_000:] = 3.0
    with torch.no_grad():
        batch = encoder(padded, torch.tensor([24_000, 13_000]))
        alone = encoder(speech[1:, :13_000])
        whole = encoder(speech)
    own = encoder.frames(13_000)
    assert batch.lengths.tolist() == [encoder.frames(24_000), own]
    assert alone.layers.shape[2] == own
    torch.testing.assert_close(batch.layers[1, :, :own], alone.layers[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(batch.layers[0], whole.layers[0], atol=1e-5, rtol=0)
    assert not batch.layers[1, :, own:].any()


def test_the_least_length_gives_one_frame(encoder, speech):
    least = encoder.min_samples
    with torch.no_grad():
        assert encoder(speech[:, :least]).layers.shape[2] == encoder.frames(least) == 1
    assert encoder.frames(least - 1) == 0
    with pytest.raises(ParameterError, match=str(least)):
        encoder(speech[:, : least - 1])


def test_a_frame_hears_its_receptive_field_and_no_more(encoder):
    torch.manual_seed(1)
    x = 0.1 * torch.randn(1, 20_000)
    middle = encoder.frames(20_000) // 2
    centre = encoder.first_centre + middle * encoder.frame_hop
    reach = encoder.receptive_field / 2 + encoder.frame_hop
    # The loudest band stays what it is.
    x[0, :800] = 1.0
    far, near = x.clone(), x.clone()
    far[0, int(centre + reach) :] *= 0.5
    near[0, int(centre) :] *= 0.5
    with torch.no_grad():
        plain, unmoved, moved = (encoder(each).layers[0, :, middle] for each in (x, far, near))
    torch.testing.assert_close(unmoved, plain, atol=1e-5, rtol=0)
    assert float((moved - plain).abs().max()) > 1e-3


def test_lower_layers_have_the_frames_that_the_highest_is_centred_on(speech):
    torch.manual_seed(0)
    every = PLCMOSEncoder().eval()
    lower = PLCMOSEncoder(layers=[1]).eval()
    lower.load_state_dict(lower.tensors_from(every.state_dict()))
    with torch.no_grad():
        among, alone = every(speech).layers[:, 1], lower(speech).layers[:, 0]
    assert lower.dim == 2048 and lower.layer_dims == (2048,)
    offset = round((every.first_centre - lower.first_centre) / every.frame_hop)
    shown = among.shape[1]
    torch.testing.assert_close(alone[:, offset : offset + shown], among)
    np.testing.assert_allclose(lower.frame_times(offset + shown)[offset:], every.frame_times(shown))


def test_dnsmos_hears_no_level_and_plcmos_does(speech):
    torch.manual_seed(0)
    for encoder, same in ((DNSMOSEncoder().eval(), True), (PLCMOSEncoder().eval(), False)):
        with torch.no_grad():
            quiet, loud = encoder(0.1 * speech).layers, encoder(speech).layers
        assert bool(torch.allclose(quiet, loud, atol=1e-4)) is same


def test_silence_has_a_finite_gradient(encoder):
    x = torch.zeros(1, 8_000, requires_grad=True)
    encoder(x).layers.sum().backward()
    assert x.grad is not None and bool(torch.isfinite(x.grad).all())


def test_a_file_of_it_needs_no_config(encoder, speech, tmp_path):
    again = load_encoder(save_encoder(encoder, tmp_path / "e.safetensors"))
    assert again.config == {}
    with torch.no_grad():
        assert torch.equal(again(speech).layers, encoder(speech).layers)
    with pytest.raises(ParameterError, match="layers"):
        type(encoder)(layers=[9])
