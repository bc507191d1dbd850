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
    with pytest.raises(ParameterError, match="even number"):
        probe.to_back_end()


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
