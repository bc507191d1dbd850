"""What the student is taught must not know the held-out clips, nor their labels."""

import numpy as np
import pytest

FOLD = 3


@pytest.fixture
def teacher(scripts):
    return scripts["teacher"]


@pytest.fixture
def sides(scripts, toy_rows):
    found = scripts["split"].split(toy_rows, FOLD)
    return found.train, found.held_out


@pytest.fixture
def features(toy_rows):
    """Twenty numbers a clip; the third tells the classes apart, the fifth is constant."""
    rng = np.random.default_rng(8)
    x = rng.standard_normal((len(toy_rows), 20)) * np.arange(1, 21)
    x[:, 2] += [30.0 if row["label"] == "bonafide" else -30.0 for row in toy_rows]
    x[:, 4] = 7.0
    return x.astype(np.float32)


def test_whitened_features_have_unit_variance_and_no_correlation_in_training(
    teacher, features, sides
):
    train, _ = sides
    z = teacher.whitened(features, train)
    assert z.shape == (len(features), 20)
    covariance = np.cov(z[train, :19].T, bias=True)
    np.testing.assert_allclose(covariance, np.eye(19), atol=1e-3)


def test_held_out_features_and_labels_change_nothing(teacher, features, toy_rows, sides):
    train, held_out = sides
    z = teacher.whitened(features, train)[:, :19]
    logits = teacher.probe_logits(z, toy_rows, FOLD)
    other = features.copy()
    other[held_out] = 1e3
    other_z = teacher.whitened(other, train)[:, :19]
    np.testing.assert_array_equal(other_z[train], z[train])
    np.testing.assert_array_equal(teacher.probe_logits(other_z, toy_rows, FOLD), logits)


def test_held_out_clips_have_no_logit_and_originals_in_training_have_one(
    teacher, features, toy_rows, sides
):
    train, held_out = sides
    z = teacher.whitened(features, train)[:, :19]
    logits = teacher.probe_logits(z, toy_rows, FOLD)
    assert logits.shape == (len(toy_rows),)
    assert np.all(np.isnan(logits[held_out]))
    originals = [i for i in train if not toy_rows[i]["derived_from"]]
    assert np.all(np.isfinite(logits[originals]))


def test_logits_grow_towards_bona_fide(teacher, features, toy_rows, sides):
    train, _ = sides
    logits = teacher.probe_logits(teacher.whitened(features, train)[:, :19], toy_rows, FOLD)
    for sign, label in ((1, "bonafide"), (-1, "spoof")):
        found = [logits[i] for i in train if toy_rows[i]["label"] == label]
        found = np.array(found)[np.isfinite(found)]
        assert np.mean(sign * found > 0) > 0.95


def test_a_probe_never_heard_the_family_that_it_judges(teacher, features, toy_rows, sides):
    """A mark on one family alone cannot raise the logits of that family."""
    train, _ = sides
    spoken = [i for i in train if toy_rows[i]["kind"] == "tts"]
    family = [i for i in spoken if toy_rows[i]["system"] == toy_rows[spoken[0]]["system"]]
    blind = teacher.whitened(features, train)[:, :19]
    mark = np.zeros((len(blind), 1), np.float32)
    mark[family] = 1.0
    seeing = np.concatenate([blind, mark], axis=1)
    np.testing.assert_allclose(
        teacher.probe_logits(seeing, toy_rows, FOLD)[family],
        teacher.probe_logits(blind, toy_rows, FOLD)[family],
        rtol=1e-3,
    )


def test_centre_crop_has_one_length_and_a_peak_of_one(teacher):
    for n in (1, 1_000, 40_000, 55_555):
        x = np.zeros(n, np.float32)
        x[n // 2] = 0.1
        y = teacher.centre_crop(x)
        assert y.shape == (teacher.CROP,)
        assert np.max(y) == pytest.approx(1.0, rel=1e-5)
    assert not teacher.centre_crop(np.zeros(9, np.float32)).any()
