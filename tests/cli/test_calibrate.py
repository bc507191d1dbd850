"""``voiceguard calibrate``: from labelled scores to a bundle that scores so."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

from voiceguard.detect.bundle import read_bundle, read_extra_files, write_bundle


@pytest.fixture
def labelled(tmp_path):
    """Scores of two Gaussians; the true llr is 2 (score - 3)."""
    rng = np.random.default_rng(5)
    path = tmp_path / "scores.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "verdict", "score", "label"])
        for label, mean in (("bonafide", 4.0), ("spoof", 2.0)):
            for i, score in enumerate(rng.normal(mean, 1.0, 4_000)):
                writer.writerow([f"{label}{i}.wav", "inconclusive", score, label])
        writer.writerow(["silent.wav", "inconclusive", "", "spoof"])
    return path


def test_the_new_bundle_holds_the_fit(command, model, labelled, tmp_path):
    out = tmp_path / "mine"
    outcome = command("calibrate", labelled, "--out", out, "--data", "May calls")
    assert outcome.code == 0, outcome.err
    bundle = read_bundle(out)
    manifest = bundle.manifest
    assert manifest.id == "tiny-calibrated"
    assert manifest.calibration.slope == pytest.approx(2.0, rel=0.1)
    assert manifest.calibration.offset == pytest.approx(-6.0, rel=0.1)
    assert manifest.calibration.data == "May calls"
    assert [p.name for p in manifest.operating_points] == [
        "balanced",
        "low_false_alarm",
        "screening",
        "cautious",
    ]
    assert manifest.default_operating_point == "balanced"
    assert manifest.provenance["calibrated_from"] == "tiny 1"
    assert bundle.graph == read_bundle(model).graph
    assert "4000 human" in bundle.card.replace("\n", " ")
    assert "EER 15.8" in outcome.out or "EER 15." in outcome.out or "EER 16." in outcome.out


def test_what_lies_beside_graph_and_card_is_kept(command, model, labelled, tmp_path):
    old = read_bundle(model)
    extra = {"config.json": b'{"sinc": true}', "weights.bin": bytes(range(9))}
    write_bundle(model, graph=old.graph, manifest=old.manifest, card=old.card, extra_files=extra)
    outcome = command("calibrate", labelled, "--out", tmp_path / "mine")
    assert outcome.code == 0, outcome.err
    assert read_extra_files(read_bundle(tmp_path / "mine")) == extra


def test_scoring_with_it(command, model, labelled, tmp_path, wav):
    out = tmp_path / "mine"
    command("calibrate", labelled, "--out", out)
    (row,) = map(json.loads, command("score", wav("a.wav", 4.0), "--model", out).out.splitlines())
    assert row["llr"] == pytest.approx(2.0, abs=0.3)
    assert row["model"]["id"] == "tiny-calibrated"


def test_the_way_of_the_guide(command, model, wav, tmp_path):
    """Score to CSV, add the truth as a column label, calibrate."""
    truth = {}
    for i in range(12):
        path = wav(f"h{i}.wav", 3.0 + i / 10)
        truth[str(path)] = "bonafide"
        truth[str(wav(f"s{i}.wav", 2.5 - i / 10 + i % 3))] = "spoof"
    truth[str(wav("silent.wav", None))] = "spoof"
    scored = command("score", path.parent, "--format", "csv").out
    rows = [{**row, "label": truth[row["path"]]} for row in csv.DictReader(io.StringIO(scored))]
    file = tmp_path / "s.csv"
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    outcome = command("calibrate", file, "--out", tmp_path / "mine")
    assert outcome.code == 0, outcome.err
    assert "12 human, 12 synthetic" in outcome.out
    assert "rates are rough" in outcome.err


def test_labels_in_a_file_of_their_own(command, model, labelled, tmp_path):
    with labelled.open() as file:
        rows = list(csv.DictReader(file))
    labels = tmp_path / "labels.csv"
    with labels.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["utterance", "label"])
        writer.writerows([row["path"].removesuffix(".wav"), row["label"]] for row in rows)
    both = [tmp_path / "one", tmp_path / "two"]
    command("calibrate", labelled, "--out", both[0])
    outcome = command("calibrate", labelled, labels, "--out", both[1])
    assert outcome.code == 0, outcome.err
    one, two = (read_bundle(folder).manifest.calibration for folder in both)
    assert two.slope == pytest.approx(one.slope)
    assert two.offset == pytest.approx(one.offset)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,score\na,1\n", "lacks the column label"),
        ("path,label\na,spoof\n", "lacks the column score"),
        ("", "lacks the column"),
        ("score,label\n1,fakeish\n", "line 2: the label must be bonafide or spoof"),
        ("score,label\n1\n", "label must be"),
        ("score,label\n1,bonafide\nnan,spoof\n", "line 3: 'nan' is no finite score"),
        ("score,label\nx,spoof\n", "line 2: 'x' is no finite score"),
        ("score,label\n1,bonafide\n2,bonafide\n", "no score is labelled 'spoof'"),
        ("score,label\n1,bonafide\n2,spoof\n1.5,bonafide\n2.5,spoof\n", "upside down"),
    ],
)
def test_bad_scores_are_told_in_one_line(command, model, tmp_path, text, message):
    path = tmp_path / "s.csv"
    path.write_text(text)
    outcome = command("calibrate", path, "--out", tmp_path / "mine")
    assert outcome.code == 2
    assert outcome.err.startswith("Error: ")
    assert outcome.err.count("\n") == 1
    assert message in outcome.err
    assert not (tmp_path / "mine").exists()


def test_a_missing_file(command, model, tmp_path):
    outcome = command("calibrate", tmp_path / "absent.csv", "--out", tmp_path / "mine")
    assert outcome.code == 2
    assert "absent.csv cannot be read" in outcome.err


def test_the_users_own_spellings(command, model, tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("score,label\n1,Real\n-1,FAKE\n2,human\n-2,spoof\n")
    assert command("calibrate", path, "--out", tmp_path / "mine").code == 0
