"""Every shipped YAML builds, at full size, what was published."""

import importlib
import sys
from pathlib import Path

import pytest

pytest.importorskip("hyperpyyaml", reason="the recipes' files are HyperPyYAML")
torch = pytest.importorskip("torch")

RECIPES = Path(__file__).parents[2] / "recipes"
# Those of SSL systems need an encoder's file: tests/recipes/asvspoof/test_ssl_system.py.
FILES = sorted(
    path
    for name in ("asvspoof2019_la", "asvspoof5")
    for path in (RECIPES / name).glob("hparams/*")
    if not path.stem.startswith("ssl_")
)
PARAMETERS = {
    "aasist": 297_866,
    "aasist-l": 85_306,
    "rawgat-st": 437_034,
    "rawnet2": 17_620_000,
}


@pytest.fixture(scope="module")
def common():
    """The modules settings and systems of recipes/common, leaving no trace."""
    folder = str(RECIPES / "common")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module("settings"), importlib.import_module("systems")
    finally:
        sys.path.remove(folder)
        for name in ("settings", "systems"):
            sys.modules.pop(name, None)


def test_the_published_settings_of_ssl_aasist(common):
    settings, _ = common
    path = RECIPES / "asvspoof2019_la/hparams/ssl_aasist.yaml"
    values = settings.read_settings(path, "data_folder: x\nencoder: xls-r.safetensors")
    assert values["options"] == {
        "encoder": "xls-r.safetensors", "back_end": "ssl-aasist", "layers": [-1],
        "open_blocks": "all",
    }  # fmt: skip
    assert values["perturb"] == [{"name": "rawboost", "algorithm": 5}]
    expected = {"learning_rate": 1e-6, "weight_decay": 1e-4, "batch_size": 14, "optimiser": "adam"}
    assert {name: values[name] for name in expected} == expected
    assert values["objective_options"] == {"spoof": 0.1, "bonafide": 0.9}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_a_file_builds_what_it_names(common, path):
    from voiceguard.training.objectives import build_objective
    from voiceguard.training.perturb import build_pipeline
    from voiceguard.training.schedules import build_schedule

    settings, systems = common
    values = settings.read_settings(path, "data_folder: corpus")
    assert values["output_folder"] == f"results/{values['name']}/{values['seed']}"
    if values["system"] == "gmm":
        from voiceguard.models.gmm import GMM, GMMConfig

        assert GMM(GMMConfig(**values["options"])).front_end.channels == 1
        assert values["options"]["components"] == 512
        return
    network = systems.build_network(values["system"], values["options"])
    count = sum(weight.numel() for weight in network.parameters())
    assert count == pytest.approx(PARAMETERS.get(values["system"], count), rel=1e-3)
    objective = build_objective(values["objective"], **values["objective_options"])
    assert getattr(network.config, "head", "linear") in objective.heads
    build_pipeline(values["perturb"])
    schedule = build_schedule(
        values["schedule"],
        peak=values["learning_rate"],
        total_steps=1_000,
        steps_per_epoch=10,
        **values["schedule_options"],
    )
    assert 0 < schedule.rate(500) <= values["learning_rate"]


def test_the_published_settings_of_aasist(common):
    settings, _ = common
    values = settings.read_settings(
        RECIPES / "asvspoof2019_la/hparams/aasist_l.yaml", "data_folder: x"
    )
    expected = {
        "crop_samples": 64_600,
        "objective_options": {"spoof": 0.1, "bonafide": 0.9},
        "epochs": 100,
        "batch_size": 24,
        "optimiser": "adam",
        "learning_rate": 1e-4,
        "weight_decay": 1e-4,
        "schedule": "cosine",
        "schedule_options": {"floor": 5e-6},
        "max_grad_norm": float("inf"),
    }
    assert {name: values[name] for name in expected} == expected
    assert FILES


def test_full_size_rawnet2_takes_a_step(common):
    """The largest network: one step moves every weight that is not frozen."""
    settings, systems = common
    from voiceguard.training.objectives import build_objective

    values = settings.read_settings(
        RECIPES / "asvspoof2019_la/hparams/rawnet2.yaml", "data_folder: x"
    )
    torch.manual_seed(0)
    network = systems.build_network(values["system"], values["options"]).train()
    objective = build_objective(values["objective"], **values["objective_options"])
    output = network(0.1 * torch.randn(2, 8_000))
    objective(output, torch.tensor([1.0, 0.0])).backward()
    silent = [
        name
        for name, weight in network.named_parameters()
        if weight.requires_grad and weight.grad is None
    ]
    assert silent == []
