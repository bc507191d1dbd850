"""From a bundle back to weights that train: the same scores, norms that fit what comes in."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import voiceguard
from voiceguard.detect.bundle import Manifest, read_bundle
from voiceguard.detect.calibration import Calibration
from voiceguard.detect.engine import OnnxEngine
from voiceguard.export import export_bundle
from voiceguard.models.graph import GraphConfig
from voiceguard.models.spectral_aasist import BlockConfig, SpectralAASIST, SpectralAASISTConfig

from .conftest import import_from

pytest.importorskip("onnx")
WINDOW = 8_000
MANIFEST = Manifest(
    id="toy",
    version="1",
    licence="Apache-2.0",
    description="toy",
    sample_rate=16_000,
    window_samples=WINDOW,
    hop_samples=WINDOW // 2,
    calibration=Calibration(1.0, 0.0),
)


@pytest.fixture(scope="module")
def reopen(recipe_folder):
    return import_from(recipe_folder, ("reopen",))["reopen"]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = SpectralAASISTConfig(
        stem=4,
        blocks=(BlockConfig(4, (2, 2)), BlockConfig(6, (4, 4)), BlockConfig(6, (1, 1))),
        graph=GraphConfig(gat_dims=(6, 4)),
        statistics=5,
    )
    model = SpectralAASIST(config)
    # Norms that have learned something, or there would be nothing to fold.
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.normal_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.normal_(module.weight, 1.0, 0.2)
            torch.nn.init.normal_(module.bias)
    return model.eval()


@pytest.fixture(scope="module")
def windows():
    rng = np.random.default_rng(1)
    level = rng.uniform(0.05, 0.3, (24, 1))
    return (level * rng.standard_normal((24, WINDOW))).astype(np.float32)


@pytest.fixture(scope="module", params=["float32", "float16"])
def bundle(request, model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / request.param
    return export_bundle(model, folder, manifest=MANIFEST, card="toy", weights=request.param)


def gives_what_the_graph_gives(network, folder, windows, *, atol=1e-3):
    read = read_bundle(folder)
    engine = OnnxEngine(
        read.graph, window_samples=WINDOW, embedding_dim=read.manifest.embedding_dim
    )
    with torch.inference_mode():
        output = network(torch.from_numpy(windows))
    for given, want in zip(
        (network.score(output), output.embedding), engine.run(windows), strict=True
    ):
        np.testing.assert_allclose(given.numpy(), want, atol=atol)


def test_the_network_scores_as_the_bundle(reopen, bundle, windows):
    network = reopen.reopen(bundle, torch.from_numpy(windows))
    gives_what_the_graph_gives(network, bundle, windows)


def test_norms_behind_convolutions_have_the_statistics_of_what_they_take(reopen, bundle, windows):
    network = reopen.reopen(bundle, torch.from_numpy(windows))
    taken = {}

    def keep(module, inputs):
        taken[module] = inputs[0].double()

    norms = [m for m in network.encoder.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) == 8
    for norm in norms:
        norm.register_forward_pre_hook(keep)
    with torch.inference_mode():
        network(torch.from_numpy(windows))
    for norm in norms:
        mean, variance = taken[norm].mean((0, 2, 3)), taken[norm].var((0, 2, 3))
        np.testing.assert_allclose(norm.running_mean, mean, atol=0.1 * variance.max() ** 0.5)
        np.testing.assert_allclose(norm.running_var, variance, rtol=0.2)


def test_the_file_is_one_that_training_and_export_read(
    reopen, bundle, windows, scripts, tmp_path, monkeypatch
):
    np.save(tmp_path / "crops.npy", np.round(windows * 32_767).astype(np.int16))
    out = tmp_path / "reopened.safetensors"
    arguments = ["reopen.py", str(bundle), "--windows", str(tmp_path / "crops.npy")]
    monkeypatch.setattr("sys.argv", [*arguments, "--out", str(out)])
    reopen.main()
    network = scripts["export"].load_model(out)
    plain = json.loads((bundle / "config.json").read_text())
    assert plain == {"network": "SpectralAASIST", **network.config.to_dict()}


def test_a_bundle_of_another_network_is_refused(reopen, windows):
    folder = Path(voiceguard.__file__).parent / "assets" / "models" / "vg-base"
    with pytest.raises(SystemExit, match="SSLEnsemble"):
        reopen.reopen(folder, torch.from_numpy(windows))


@pytest.mark.parametrize(
    ("weights", "allowed"), [("float32", 1e-3), ("int8", 1e-3), ("static-int8", 0.03)]
)
def test_an_ensemble_comes_back_with_the_weights_of_its_graph(
    reopen, scripts, weights, allowed, tmp_path, monkeypatch
):
    pytest.importorskip("transformers", reason="one of its members is Whisper's")
    from voiceguard.export_ssl import export_ssl_bundle
    from voiceguard.features.ssl.cepstra import CepstralEncoder
    from voiceguard.features.ssl.plcmos import PLCMOSEncoder
    from voiceguard.features.ssl.whisper import WhisperConfig, WhisperEncoder
    from voiceguard.models.covariance import CovarianceConfig, CovarianceProbe
    from voiceguard.models.modulation import ModulationConfig, ModulationProbe
    from voiceguard.models.ssl_ensemble import SSLEnsemble, load_ssl_ensemble
    from voiceguard.models.ssl_network import FrameNetwork, SSLNetwork, frame_network

    torch.manual_seed(3)
    config = WhisperConfig(dim=24, depth=2, heads=2, feedforward=32, mels=20, positions=30)
    whisper = WhisperEncoder(config, layers=(0, 1), context_s=0.5)
    hidden = frame_network("mlp", dim=24, n_layers=2, frames=25, hidden=6, layers=2)
    covariances = FrameNetwork(1, CovarianceProbe(CovarianceConfig(dim=1024, axes=3)))
    modulations = FrameNetwork(1, ModulationProbe(ModulationConfig(segment=16)))
    made = SSLEnsemble(
        [
            SSLNetwork(PLCMOSEncoder(layers=(2,)), covariances, back_end="covariance"),
            SSLNetwork(whisper, hidden, back_end="mlp"),
            SSLNetwork(CepstralEncoder(), modulations, back_end="modulation"),
        ],
        (0.5, 2.0, 1.5),
    ).eval()
    # As trained: a graph keeps equal tensors, such as ones and zeros, but once.
    for parameter in made.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, parameter.mean().item(), 0.1)
    for member in made.networks:
        torch.nn.init.normal_(member.head.back_end.bn.running_mean, std=0.1)
        torch.nn.init.uniform_(member.head.back_end.bn.running_var, 0.5, 2.0)
    windows = (0.2 * np.random.default_rng(4).standard_normal((3, WINDOW))).astype(np.float32)
    folder = export_ssl_bundle(
        made,
        tmp_path / "toy",
        manifest=MANIFEST,
        card="toy",
        weights=weights,
        calibration=windows,
    )
    out = tmp_path / "joined.safetensors"
    monkeypatch.setattr("sys.argv", ["reopen.py", str(folder), "--out", str(out)])
    reopen.main()
    back = load_ssl_ensemble(out)
    assert back.config == made.config
    gives_what_the_graph_gives(back, folder, windows, atol=allowed)
    with pytest.raises(SystemExit, match="SSLEnsemble"):
        reopen.reopen(folder, torch.from_numpy(windows))


@pytest.fixture(scope="module")
def mixed(model, tmp_path_factory):
    """A spectral AASIST and a probe on modulation spectra, and the bundle of their sum."""
    from voiceguard.export_ssl import export_ssl_bundle
    from voiceguard.features.ssl.cepstra import CepstralEncoder
    from voiceguard.models.modulation import ModulationConfig, ModulationProbe
    from voiceguard.models.ssl_ensemble import SSLEnsemble
    from voiceguard.models.ssl_network import FrameNetwork, SSLNetwork

    torch.manual_seed(5)
    head = FrameNetwork(1, ModulationProbe(ModulationConfig(segment=16)))
    torch.nn.init.normal_(head.back_end.bn.running_mean, std=0.1)
    torch.nn.init.uniform_(head.back_end.bn.running_var, 0.5, 2.0)
    probe = SSLNetwork(CepstralEncoder(), head, back_end="modulation")
    made = SSLEnsemble([model, probe], (0.5, 2.0)).eval()
    folder = tmp_path_factory.mktemp("mixed") / "toy"
    return made, export_ssl_bundle(made, folder, manifest=MANIFEST, card="toy")


def test_a_spectral_aasist_in_an_ensemble_comes_back_with_norms_from_windows(
    reopen, mixed, windows, tmp_path, monkeypatch
):
    from voiceguard.models.ssl_ensemble import load_ssl_ensemble

    made, folder = mixed
    np.save(tmp_path / "crops.npy", np.round(windows * 32_767).astype(np.int16))
    out = tmp_path / "joined.safetensors"
    argv = ["reopen.py", str(folder), "--out", str(out)]
    monkeypatch.setattr("sys.argv", [*argv, "--windows", str(tmp_path / "crops.npy")])
    reopen.main()
    back = load_ssl_ensemble(out)
    assert back.config == made.config
    gives_what_the_graph_gives(back, folder, windows)
    for name, kept in made.networks[1].state_dict().items():
        torch.testing.assert_close(back.networks[1].state_dict()[name], kept)


def test_the_spectral_aasist_of_an_ensemble_comes_alone(
    reopen, scripts, mixed, windows, bundle, tmp_path, monkeypatch
):
    made, folder = mixed
    np.save(tmp_path / "crops.npy", np.round(windows * 32_767).astype(np.int16))
    out = tmp_path / "lone.safetensors"
    argv = ["reopen.py", str(folder), "--windows", str(tmp_path / "crops.npy"), "--out", str(out)]
    monkeypatch.setattr("sys.argv", [*argv, "--spectral"])
    reopen.main()
    network = scripts["export"].load_model(out)
    assert network.config == made.networks[0].config
    with torch.inference_mode():
        given, wanted = (
            each.score(each(torch.from_numpy(windows))) for each in (network, made.networks[0])
        )
    torch.testing.assert_close(given, wanted, atol=0.05, rtol=0.0)
    with pytest.raises(SystemExit, match="There are 0"):
        reopen.lone(type(made)([made.networks[1]]))


def test_norms_hear_windows_as_loud_as_the_member_does(reopen, mixed, windows, monkeypatch):
    from voiceguard.models.ssl_ensemble import PEAK

    heard, settle = [], reopen._settle
    monkeypatch.setattr(reopen, "_settle", lambda *args: heard.append(args[2]) or settle(*args))
    reopen.reopen_ensemble(mixed[1], torch.from_numpy(windows))
    (given,) = heard
    torch.testing.assert_close(given.abs().amax(1), torch.full((24,), PEAK))


def test_norms_need_windows(reopen, mixed, bundle, tmp_path, monkeypatch):
    for folder in (mixed[1], bundle):
        monkeypatch.setattr("sys.argv", ["reopen.py", str(folder), "--out", str(tmp_path / "x")])
        with pytest.raises(SystemExit, match="add --windows"):
            reopen.main()
