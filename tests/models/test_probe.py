"""The probes: pooling by hand, scikit-learn's answer, the same map in torch."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from voiceguard.errors import ParameterError
from voiceguard.models.probe import MLP, LinearProbe, MLPConfig, pool_statistics


@pytest.fixture(scope="module")
def frames():
    """60 utterances, a third of them human, whose third coefficient stands higher."""
    features = torch.randn(60, 12, 5, generator=torch.Generator().manual_seed(0))
    features[::3, :, 2] += 0.6
    features[:, :, 3] *= 40.0
    return features


@pytest.fixture(scope="module")
def labels():
    return ["bonafide" if i % 3 == 0 else "spoof" for i in range(60)]


@pytest.fixture(scope="module")
def fitted(frames, labels):
    return LinearProbe(C=0.5).fit(pool_statistics(frames).numpy(), labels)


def test_statistics_are_means_and_deviations(frames):
    lengths = torch.tensor([12, 7, 1])
    for row, (found, n) in enumerate(
        zip(pool_statistics(frames[:3], lengths), lengths, strict=True)
    ):
        real = frames[row, :n].numpy()
        np.testing.assert_allclose(found[:5], real.mean(axis=0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found[5:], real.std(axis=0), rtol=1e-3, atol=2e-3)


def test_probe_is_scikit_learns(fitted, frames, labels):
    pooled = pool_statistics(frames).numpy().astype(np.float64)
    oracle = make_pipeline(StandardScaler(), LogisticRegression(C=0.5, class_weight="balanced"))
    oracle.fit(pooled, labels)
    assert list(oracle.classes_) == ["bonafide", "spoof"]
    expected = -oracle.decision_function(pooled)
    np.testing.assert_allclose(fitted.decision_function(pooled), expected, rtol=1e-3, atol=1e-3)


def test_probe_tells_the_classes_apart(fitted, frames, labels):
    odds = fitted.decision_function(pool_statistics(frames).numpy())
    bonafide = np.array(labels) == "bonafide"
    assert np.mean((odds > 0) == bonafide) > 0.8


def test_back_end_computes_what_the_probe_does(fitted, frames):
    back_end = fitted.to_back_end()
    with torch.no_grad():
        score = back_end.score(back_end(frames)).numpy()
    expected = fitted.decision_function(pool_statistics(frames).numpy())
    np.testing.assert_allclose(score, expected, rtol=1e-3, atol=1e-3)
    assert back_end.config.hidden == 0


def test_balanced_classes(frames, labels, fitted):
    # Repeating the spoof trials leaves the balanced fit where it was.
    pooled = pool_statistics(frames).numpy()
    spoof = np.array(labels) == "spoof"
    again = LinearProbe(C=0.5).fit(
        np.concatenate([pooled, pooled[spoof]]), [*labels, *["spoof"] * spoof.sum()]
    )
    first, second = (p.coef_ / p.scale_ for p in (fitted, again))
    assert np.corrcoef(first, second)[0, 1] > 0.99


def test_odd_features_make_no_back_end(labels):
    probe = LinearProbe().fit(np.random.default_rng(0).normal(size=(60, 3)), labels)
    with pytest.raises(ParameterError, match="a multiple of 2 features"):
        probe.to_back_end()
    even = LinearProbe().fit(np.random.default_rng(0).normal(size=(60, 6)), labels)
    for layers in (0, 2):
        with pytest.raises(ParameterError, match=f"back end of {layers} layers"):
            even.to_back_end(layers)


def test_layers_side_by_side_make_a_back_end_that_takes_them(frames, labels):
    stacked = torch.stack([frames, frames.flip(2) ** 2], dim=1)
    pooled = torch.cat([pool_statistics(stacked[:, i]) for i in (0, 1)], dim=1).numpy()
    probe = LinearProbe(C=0.5).fit(pooled, labels)
    back_end = probe.to_back_end(2)
    with torch.no_grad():
        output = back_end(stacked)
    score = back_end.score(output).numpy()
    np.testing.assert_allclose(score, probe.decision_function(pooled), rtol=1e-3, atol=1e-3)
    assert back_end.takes_layers
    assert output.embedding.shape == (60, back_end.embedding_dim) == (60, 20)


def test_features_that_hardly_move_keep_the_map_and_can_be_kept_small(frames, labels):
    still = frames.clone()
    still[:, :, 1] = 2.0 + 1e-4 * still[:, :, 1]
    pooled = pool_statistics(still).numpy()
    probe = LinearProbe(C=0.5).fit(pooled, labels)
    back_end = probe.to_back_end()
    with torch.no_grad():
        score = back_end.score(back_end(still)).numpy()
    assert np.all(np.isfinite(score))
    # The feature itself has but four digits in float32.
    np.testing.assert_allclose(score, probe.decision_function(pooled), rtol=0.02, atol=0.05)
    held = LinearProbe(C=0.5, least_scale=0.01).fit(pooled, labels)
    assert held.scale_[1] == 0.01 > probe.scale_[1]
    np.testing.assert_array_equal(held.scale_[[0, 2, 3, 4]], probe.scale_[[0, 2, 3, 4]])


def test_weights_count_within_a_class(frames, labels):
    pooled = pool_statistics(frames).numpy()
    spoof = np.array(labels) == "spoof"
    doubled = np.where(np.arange(60) % 2 == 0, 2.0, 1.0)
    weighted = LinearProbe(C=0.5).fit(pooled, labels, weights=doubled)
    twice = np.repeat(np.arange(60), doubled.astype(int))
    repeated = LinearProbe(C=0.5 * 60 / len(twice)).fit(pooled[twice], [labels[i] for i in twice])
    first, second = (p.coef_ / p.scale_ for p in (weighted, repeated))
    assert np.corrcoef(first, second)[0, 1] > 0.99
    # A scale of its own for each class changes nothing.
    again = LinearProbe(C=0.5).fit(pooled, labels, weights=np.where(spoof, 7.0, 1.0) * doubled)
    np.testing.assert_allclose(again.coef_, weighted.coef_, rtol=1e-6)


@pytest.mark.parametrize("weights", [np.ones(59), np.zeros(60), np.full(60, np.nan)])
def test_other_weights_are_refused(frames, labels, weights):
    with pytest.raises(ParameterError, match="'weights'"):
        LinearProbe().fit(pool_statistics(frames).numpy(), labels, weights=weights)


@pytest.mark.parametrize(
    "bad", [["bonafide"] * 60, ["bonafide", "spoof"], ["bonafide", "fake"] * 30]
)
def test_other_labels_are_refused(frames, bad):
    with pytest.raises(ParameterError, match="'bonafide'"):
        LinearProbe().fit(pool_statistics(frames).numpy(), bad)


def test_hidden_layer_is_optional():
    assert MLP(MLPConfig(dim=4, hidden=0)).embedding_dim == 8
    assert MLP(MLPConfig(dim=4, hidden=3)).embedding_dim == 3


@pytest.mark.parametrize("options", [{"dim": 0}, {"hidden": -1}, {"dropout": 1.0}])
def test_bad_config_is_refused(options):
    with pytest.raises(ParameterError, match=f"'{next(iter(options))}'"):
        MLPConfig(**options)
