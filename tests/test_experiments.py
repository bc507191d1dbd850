"""benchmarks/experiments.py: rows in their order with their numbers, names clear of each other."""

from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
RECIPE = BENCHMARKS.parent / "recipes" / "open_voices"

RESULTS = """date,name,hparams,fold,crops,minutes,held_out_eer_clean,held_out_eer_g711
2026-02-02,later,bb,3,64,17,0.21,0.22
2026-01-01,earlier,aa,3,64,72,0.31,0.32
"""
JUDGED = """date,system,data,channel,eer,eer_low,eer_high,min_dcf,act_dcf,cllr
2026-02-02,second,wild-dev,clean,0.207,0.16,0.24,0.5,0.5,0.6
2026-01-01,first,wild-dev,clean,0.363,0.29,0.42,0.8,,
2026-01-01,first,wild-dev,g711,0.394,0.32,0.45,0.9,,
2026-01-01,first,elsewhere,clean,0.111,0.1,0.12,0.3,,
2026-02-02,second,wild-dev,g711,0.287,0.23,0.33,0.6,0.7,0.8
2026-02-02,second,wild-dev,clean,0.195,0.15,0.23,0.5,0.5,0.6
"""
ABLATIONS = """date,probe,settings,passes,folds,eer_clean,macro_clean,eer_g711,macro_g711
2026-01-01,distillmos:0,penalty 0.01,first telephone,5 by size,0.17,0.215,0.196,0.241
2026-01-02,distillmos:0,penalty 0.01,first telephone,5 by size,0.18,0.225,0.206,0.251
2026-01-01,"sum of distillmos:0 and whisper:0:128",,first telephone,5 by size,0.144,0.18,0.164,0.209
2026-01-01,"whisper:0,1,2:128",penalty 0.01,first,5 by size,0.14,0.189,0.19,0.225
2026-01-02,distillmos:0,penalty 0.01,first telephone,5 far,0.208,0.25,0.226,0.26
"""
SSL_HEAD = (
    "system,parameters,ms_a_window,megabytes,held_out_clean,held_out_g711,"
    "eer_clean,eer_low_clean,eer_high_clean,eer_g711,eer_low_g711,eer_high_g711\n"
)
SSL = (
    SSL_HEAD
    + """ssl-whisper-mlp-seed1,7800000,26.6,32.1,0.18,0.2,0.377,0.32,0.43,0.41,0.36,0.46
ssl-whisper-mlp-seed1,7800000,28.8,32.1,0.18,0.2,0.377,0.32,0.43,0.41,0.36,0.46
ssl-distillmos-linear-probe-seed1,1600000,79.2,6.8,0.19,0.19,0.258,0.19,0.32,0.34,0.29,0.4
ssl-whisper-mlp-seed1-int8,7800000,27.1,9.1,0.18,0.2,0.378,0.32,0.43,0.41,0.36,0.46
ssl-whisper-unjudged-seed1,7800000,27.1,9.1,0.18,0.2,,,,,,
"""
)
TABLES = {
    "results.csv": RESULTS, "judged.csv": JUDGED, "ablations.csv": ABLATIONS, "ssl_judged.csv": SSL,
}  # fmt: skip
PICTURES = {"experiments_wild_dev.png", "experiments_ablations.png", "experiments_back_ends.png"}


@pytest.fixture(scope="module")
def experiments(benchmark_scripts):
    with benchmark_scripts("experiments") as bench:
        yield bench.experiments


@pytest.fixture
def tables(tmp_path):
    """A folder with the four tables."""
    folder = tmp_path / "tables"
    folder.mkdir()
    for name, text in TABLES.items():
        (folder / name).write_text(text)
    return folder


def run(experiments, tables, capsys, *options):
    """What the script prints, line by line."""
    out = tables.parent / "pictures"
    experiments.main(["--tables", str(tables), "--out", str(out), *options])
    return capsys.readouterr().out.splitlines()


def test_recipes_stand_by_date_and_judged_anew_anew(experiments, tables):
    rows = experiments.recipes(experiments.read(tables / "judged.csv"))
    assert [(row["system"], row["data"]) for row in rows] == [
        ("first", "wild-dev"),
        ("first", "elsewhere"),
        ("second", "wild-dev"),
        ("second", "wild-dev"),
    ]
    assert experiments.interval(rows[0], "g711") == (0.394, 0.32, 0.45)
    assert experiments.interval(rows[2], "g711") == (0.287, 0.23, 0.33)
    assert [row["eer_clean"] for row in rows] == ["0.363", "0.111", "0.207", "0.195"]
    assert np.isnan(experiments.interval(rows[3], "g711")).all()


def test_of_a_probe_the_last_row_counts_and_the_least_mean_leads(experiments, tables):
    rows = experiments.probes(experiments.read(tables / "ablations.csv"))
    assert [row["probe"] for row in rows] == [
        "sum of distillmos:0 and whisper:0:128",
        "whisper:0,1,2:128",
        "distillmos:0",
        "distillmos:0",
    ]
    assert [(row["folds"], row["eer_clean"]) for row in rows[2:]] == [
        ("5 by size", "0.18"),
        ("5 far", "0.208"),
    ]


def test_back_ends_without_an_error_are_left_out_and_the_best_leads(experiments, tables):
    rows = experiments.back_ends(experiments.read(tables / "ssl_judged.csv"))
    assert [(row["system"], row["ms_a_window"]) for row in rows] == [
        ("ssl-distillmos-linear-probe-seed1", "79.2"),
        ("ssl-whisper-mlp-seed1", "28.8"),
        ("ssl-whisper-mlp-seed1-int8", "27.1"),
    ]


def test_the_printed_rows_carry_the_numbers(experiments, tables, capsys):
    pytest.importorskip("matplotlib", reason="plots need the extra")
    lines = run(experiments, tables, capsys, "--markdown")
    for line in (
        "| earlier | 2026-01-01 | 3 | 72 | 31.0 | 32.0 |",
        "| first | 2026-01-01 | wild-dev | 36.3 (29 to 42) | 39.4 (32 to 45) |",
        "| second | 2026-02-02 | wild-dev | 19.5 (15 to 23) | - |",
        "| whisper:0,1,2:128 | penalty 0.01 | first | 5 by size | 14.0 (18.9) | 19.0 (22.5) |",
        "| ssl-distillmos-linear-probe-seed1 | 79.2 | 25.8 (19 to 32) | 34.0 (29 to 40) |",
    ):
        assert line in lines
    runs = [line for line in lines if line.startswith(("| earlier", "| later"))]
    assert runs == sorted(runs)


def test_every_picture_is_drawn(experiments, tables, capsys):
    pytest.importorskip("matplotlib", reason="plots need the extra")
    run(experiments, tables, capsys)
    drawn = list((tables.parent / "pictures").iterdir())
    assert {path.name for path in drawn} == PICTURES
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)


def test_the_recipe_s_own_tables_can_be_read_and_drawn(experiments, capsys, tmp_path):
    pytest.importorskip("matplotlib", reason="plots need the extra")
    experiments.main(["--out", str(tmp_path)])
    assert "vg-base" in capsys.readouterr().out
    there = {name for name in TABLES if (RECIPE / name).is_file()}
    assert len(list(tmp_path.iterdir())) == len(there - {"results.csv"})


@pytest.mark.parametrize("content", [None, ABLATIONS.splitlines()[0] + "\n"])
def test_an_absent_or_empty_table_is_passed_over(experiments, tables, capsys, content):
    pytest.importorskip("matplotlib", reason="plots need the extra")
    (tables / "ablations.csv").unlink()
    if content is not None:
        (tables / "ablations.csv").write_text(content)
    lines = run(experiments, tables, capsys)
    assert "ablations.csv: no rows, passed over" in lines
    assert not any(line.startswith("probes") for line in lines)
    names = {path.name for path in (tables.parent / "pictures").iterdir()}
    assert names == PICTURES - {"experiments_ablations.png"}


@pytest.mark.parametrize("seed", range(5))
def test_labels_keep_off_each_other_and_off_the_dots(experiments, seed):
    """Twenty names of 60 by 12 pixels for dots that are crowded within 200 by 200."""
    dots = 200 * np.random.default_rng(seed).random((20, 2))
    sizes = np.full((20, 2), (60.0, 12.0))
    middles = dots + experiments.spots(dots, sizes)
    apart = np.abs(middles[:, None] - middles) >= sizes
    assert (apart.any(-1) | np.eye(20, dtype=bool)).all()
    assert (np.abs(middles[:, None] - dots) >= sizes / 2).any(-1).all()


def test_a_lonely_label_stands_beside_its_dot(experiments):
    move = experiments.spots(np.zeros((1, 2)), np.array([[60.0, 12.0]]))[0]
    assert np.abs(move).tolist() == pytest.approx([38.0, 0.0], abs=1e-9)
