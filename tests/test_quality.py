"""benchmarks/quality.py: targets are judged as the issue states them, and the tables are whole."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch", reason="the recipe's modules need the train extra")


@pytest.fixture(scope="module")
def quality(benchmark_scripts):
    with benchmark_scripts("quality") as bench:
        yield bench.quality


@pytest.fixture
def trials(quality):
    """Four people, four clips of an engine that is named and four of one that is not."""
    systems = ["human"] * 4 + ["known"] * 4 + ["new"] * 4
    rows = [
        {
            "id": f"clip{i}",
            "system": name,
            "kind": "human" if name == "human" else "tts",
            "label": "bonafide" if name == "human" else "spoof",
        }
        for i, name in enumerate(systems)
    ]
    clips = [np.full(5, i, np.float32) for i in range(12)]
    bonafide = np.array([name == "human" for name in systems])
    return quality.Trials(rows, clips, bonafide, np.array([row["id"] for row in rows]))


VALUES = np.array([2.0, 1.0, 0.5, -0.5, -3.0, -2.0, -2.5, -4.0, 0.0, -1.0, 0.7, 3.0])


@pytest.fixture
def judged(quality, trials, tmp_path):
    """A calibrated system that gives the values above, whatever the channel."""
    found = quality.System(
        "toy",
        "key",
        lambda: lambda clip: (float(VALUES[round(float(clip[0]))]), False, True),
        3,
        SimpleNamespace(manifest=SimpleNamespace(calibration=True, operating_points=())),
    )
    parts = quality.subsets(trials.rows, {"known"})
    return quality.judge(found, trials, "clean", parts, tmp_path)


@pytest.mark.parametrize(
    ("value", "goal", "met"),
    [(0.1, 0.1, "goal"), (0.15, 0.1, "must"), (0.18, None, "must"), (0.181, 0.1, "no")],
)
def test_a_target_is_met_up_to_its_limit(quality, value, goal, met):
    assert quality.Target("", "%", value, 0.18, goal).met == met


def test_what_is_no_number_is_not_met(quality):
    assert quality.Target("", "", float("nan"), 1.2, 1.1).met == "no"


def test_figures_and_parts_of_scores(quality, judged):
    """One person of four lies below three of the unseen engine's clips."""
    assert judged.numbers["act_to_min"] == pytest.approx(
        judged.numbers["act_dcf"] / judged.numbers["min_dcf"]
    )
    assert judged.parts["systems that it names"]["eer"] == 0.0
    assert judged.parts["systems that it names"]["n"] == 4
    assert judged.parts[quality.UNSEEN]["eer"] == pytest.approx(0.5)
    assert judged.parts["tts"]["eer"] == pytest.approx(judged.numbers["eer"])


def test_scores_are_kept_and_not_made_twice(quality, trials, judged, tmp_path):
    def refuse():
        raise AssertionError("the scorer was made")

    again = quality.System("toy", "key", refuse, 3)
    values = quality.judge(again, trials, "clean", {}, tmp_path).values
    assert (values == VALUES).all()


def test_who_is_flagged_what_passes_and_what_is_withheld(quality, judged):
    from voiceguard.results import OperatingPoint

    plain = OperatingPoint("balanced", 0.1, 0.25, 0.25, "", margin=0.0)
    careful = replace(plain, name="cautious", margin=0.65)
    manifest = SimpleNamespace(operating_points=(plain, careful))
    system = quality.System("toy", "key", None, 3, SimpleNamespace(manifest=manifest))
    bonafide = np.arange(12) < 4
    found = {(name, channel): judged for name in ("toy", "cues") for channel in quality.CHANNELS}
    rows = quality.point_rows(found, [system, quality.System("cues", "k", None, 3)], bonafide)
    # People: 2, 1, 0.5 and -0.5; of eight fakes 0.7 and 3 pass, 0 and 0.7 lie beside the line.
    assert rows[:2] == [
        ["toy, clean", "balanced", "25.0", "25.0", "0.0"],
        ["toy, clean", "cautious", "0.0", "12.5", "33.3"],
    ]
    assert len(rows) == 4


def made(quality, eer, unseen, ratio):
    numbers = {"eer": eer, "act_to_min": ratio}
    return quality.Judged(VALUES, numbers, {quality.UNSEEN: {"eer": unseen}})


def test_the_table_of_targets(quality):
    base = {"clean": made(quality, 0.09, 0.13, 1.05), "g711": made(quality, 0.2, 0.21, 1.15)}
    small = {"clean": made(quality, 0.12, 0.1, 1.3), "g711": made(quality, 0.25, 0.2, 1.0)}
    lines = quality.targets(
        base,
        small,
        size_mb={"base": 7.0, "small": 2.1},
        window_ms={"base": 151.0, "small": 8.0},
    )
    assert {line.what: line.met for line in lines} == {
        "base, clean: EER": "goal",
        "base, G.711: EER": "must",
        "base, clean: unseen from all": "no",
        "base, G.711: unseen from all": "must",
        "small over base, clean: EER": "must",
        "small over base, G.711: EER": "no",
        "base, clean: actDCF / minDCF": "goal",
        "base, G.711: actDCF / minDCF": "must",
        "small, clean: actDCF / minDCF": "no",
        "small, G.711: actDCF / minDCF": "goal",
        "base: size": "must",
        "base: a window on one core": "no",
        "small: size": "no",
        "small: a window on one core": "must",
    }


@pytest.mark.parametrize("markdown", [False, True])
def test_tables_hold_every_figure(quality, trials, judged, capsys, markdown):
    found = {("toy", channel): judged for channel in quality.CHANNELS}
    lines = [quality.Target("a target", "%", 0.123, 0.18, 0.1), quality.Target("x", "MB", 1.5, 2)]
    toy = quality.System("toy", "key", None, 3)
    quality.print_tables(trials, found, [toy, toy], lines, markdown=markdown)
    out = capsys.readouterr().out
    for text in ("toy, G.711", f"{quality.UNSEEN} (4)", "12.3 %", "10.0 %", "1.5 MB", "4 human"):
        assert text in out
    rules = [line for line in out.splitlines() if line.startswith("| ---")]
    assert len(rules) == (4 if markdown else 0)


def test_time_and_size_of_a_model(quality, detector, calibrated):
    assert quality.core_ms({"toy": detector})["toy"] >= 0
    size = sum(file.stat().st_size for file in calibrated.iterdir())
    assert quality.megabytes(str(calibrated)) == size / 1e6


def test_every_plot_is_drawn(quality, trials, judged, tmp_path):
    pytest.importorskip("matplotlib", reason="plots need the extra")
    model = SimpleNamespace(name="toy", calibrated=True, threshold=-0.2)
    found = {("toy", channel): judged.values for channel in quality.CHANNELS}
    unseen = np.array([row["system"] == "new" for row in trials.rows])
    quality.plots.draw_all(tmp_path / "plots", trials, found, [model], unseen)
    names = {path.name for path in (tmp_path / "plots").iterdir()}
    kinds = ("det", "scores_toy", "systems_toy")
    wanted = {f"{kind}_{channel}.png" for kind in kinds for channel in quality.CHANNELS}
    assert names == wanted | {"reliability_toy.png"}
