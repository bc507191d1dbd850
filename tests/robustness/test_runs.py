"""Runs go on where they stopped, rows hold the right figures, sounds are made once."""

from dataclasses import replace

import numpy as np
import pytest

from .conftest import RATE, power_db


def system_of(bench, *, calls, name="loud", balanced=0.0):
    """Scores a clip by its loudness, and keeps count."""

    def score(clips):
        calls.append(len(clips))
        return np.array([power_db(x) + 26.0 for x in clips])

    return bench.trials.System(name, "f" * 64, score, calibration="1, 0", balanced=balanced)


def jobs_of(bench, trials, out, names=("clean", "white 0 dB", "peak -40 dBFS")):
    maker = bench.sounds.Maker(trials, out, out, 0)
    known = {condition.name: condition for condition in bench.conditions.conditions()[0]}
    return [maker.job(known[name]) for name in names]


def test_killed_run_goes_on_without_scoring_anything_twice(bench, trials, tmp_path):
    path, calls = tmp_path / "results.csv", []
    jobs, system = jobs_of(bench, trials, tmp_path), system_of(bench, calls=calls)
    run, results = bench.robustness.run, bench.robustness.Results
    straight = list(run(jobs, [system], trials, results(tmp_path / "straight.csv")))
    calls.clear()
    started = run(jobs, [system], trials, results(path))
    next(started), next(started)
    started.close()
    # As if the machine had died while the next line was written.
    path.write_text(path.read_text() + "loud,ffffffffffff,")
    resumed = list(run(jobs, [system], trials, results(path)))
    assert resumed == straight
    assert calls == [8, 8, 8]
    assert list(run(jobs, [system], trials, results(path))) == straight
    assert len(calls) == 3
    assert path.read_text() == (tmp_path / "straight.csv").read_text()


def test_other_weights_calibration_seed_or_clips_are_other_rows(bench, trials, tmp_path):
    calls = []
    system = system_of(bench, calls=calls)
    results = bench.robustness.Results(tmp_path / "results.csv")
    (job,) = jobs_of(bench, trials, tmp_path, ["clean"])
    list(bench.robustness.run([job], [system], trials, results))
    maker = bench.sounds.Maker(trials, tmp_path, tmp_path, 1)
    assert results.find(system, job)
    assert results.find(system, bench.sounds.Job("clean", "clean", maker.key, job.make)) is None
    for other in (
        replace(system, sha256="e" * 64),
        replace(system, calibration="2, 0"),
        replace(system, balanced=0.5),
    ):
        assert results.find(other, job) is None


def test_figures_of_a_row(bench, trials, tmp_path):
    values = np.array([-1.0, 2.0, 3.0, 1.0, -2.0, -3.0, -4.0, 4.0])
    system = bench.trials.System("made up", "f" * 64, lambda _: values, balanced=2.5)
    sound = bench.sounds.Sound(np.arange(8), trials.clips)
    row = bench.robustness.measure(system, sound, trials, None)
    # Humans 2, 1, -3, 4; fakes -1, 3, -2, -4: one of each lies on the wrong side of -1 or 1.
    assert row["eer"] == 0.25
    assert (row["flagged"], row["passed"]) == (0.75, 0.25)
    assert (row["flagged_own_line"], row["passed_own_line"]) == (0.25, 0.25)
    moved = bench.robustness.measure(system, sound, trials, 3.5)
    assert (moved["flagged_own_line"], moved["passed_own_line"]) == (0.75, 0.0)
    assert "act_dcf" not in row


def test_sound_is_made_once_and_kept_within_a_16_bit_step(bench, trials, tmp_path):
    (job,) = jobs_of(bench, trials, tmp_path, ["white 0 dB"])
    first, again = job.make(), job.make()
    assert len(list((tmp_path / "audio").rglob("*.npz"))) == 1
    for a, b, x in zip(first.clips, again.clips, trials.clips, strict=True):
        assert np.array_equal(a, b)
        assert len(a) == len(x)
        assert power_db(a - x) == pytest.approx(power_db(x), abs=0.1)


def test_too_loud_is_turned_down_and_too_long_is_cut(bench):
    y = bench.sounds.fit_to_file(np.full(6 * RATE, 2.0, np.float32))
    assert len(y) == int(4.1 * RATE)
    assert y.max() == 1.0


def test_rows_are_balanced_over_classes_and_systems(bench):
    sizes = {"human": 50, "a": 30, "b": 3, "c": 1}
    rows = [
        {
            "id": f"{system}{i}",
            "label": "bonafide" if system == "human" else "spoof",
            "system": system,
        }
        for system, size in sizes.items()
        for i in range(size)
    ]
    chosen = bench.trials.balanced_rows(rows, 20)
    found = {system: sum(row["system"] == system for row in chosen) for system in sizes}
    assert found == {"human": 10, "a": 6, "b": 3, "c": 1}
    assert [rows.index(row) for row in chosen] == sorted(rows.index(row) for row in chosen)
    assert [row["id"] for row in chosen if row["system"] == "human"][::9] == ["human0", "human49"]
    assert bench.trials.balanced_rows(rows, 0) == rows
    few = bench.trials.balanced_rows(rows, 4)
    assert {row["system"] for row in few} == {"human", "a", "c"}


def test_network_is_heard_on_clean_and_attack_only(bench, trials, tmp_path):
    calls = []
    everywhere = system_of(bench, calls=calls)
    network = bench.trials.System("network", "d" * 64, everywhere.score, everywhere=False)
    jobs = jobs_of(bench, trials, tmp_path)
    results = bench.robustness.Results(tmp_path / "results.csv")
    rows = list(bench.robustness.run(jobs, [everywhere, network], trials, results))
    assert [row["condition"] for row in rows if row["system"] == "network"] == ["clean"]


def test_table_has_the_difference_to_clean(bench, trials, tmp_path):
    jobs, system = jobs_of(bench, trials, tmp_path), system_of(bench, calls=[])
    results = bench.robustness.Results(tmp_path / "results.csv")
    rows = list(bench.robustness.run(jobs, [system], trials, results))
    rows[1]["eer"] = rows[0]["eer"] + 0.123
    text = bench.robustness.system_table(rows, markdown=True)
    line = next(line for line in text.splitlines() if "white 0 dB" in line)
    assert "| +12.3 |" in line
    assert text.splitlines()[0].startswith("loud (ffffffffffff): 4 human and 4 synthetic clips")
