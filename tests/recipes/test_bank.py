"""The bank with an encoder known by hand: what is stored, and that a killed pass goes on."""

import numpy as np
import pytest

from voiceguard.training.bank import open_bank
from voiceguard.training.corpus import Corpus

CLIPS = 70


class Envelope:
    """Stands in for the encoder: 1,024 copies of the mean power of each 20 ms, scaled."""

    calls = 0

    def __call__(self, waveforms):
        self.calls += len(waveforms)
        hops = waveforms[:, :32_000].reshape(len(waveforms), 100, 320)
        power = (hops**2).mean(axis=2)
        power = np.concatenate([power, power[:, -1:]], axis=1)
        return (power[:, None, :] * np.linspace(1, 2, 1024)[:, None]).astype(np.float32)


@pytest.fixture
def bank(scripts):
    return scripts["bank"]


@pytest.fixture
def corpus():
    rng = np.random.default_rng(4)
    lengths = rng.integers(9_000, 60_000, CLIPS)
    pcm = rng.integers(-9_000, 9_000, lengths.sum()).astype(np.int16)
    return Corpus(rows=[{}] * CLIPS, pcm=pcm, offsets=np.concatenate([[0], np.cumsum(lengths)]))


@pytest.fixture
def work(tmp_path):
    np.save(tmp_path / "rooms.npy", np.eye(3, 50, dtype=np.float32))
    (tmp_path / "bank").mkdir()
    rng = np.random.default_rng(1)
    axes = np.linalg.qr(rng.standard_normal((1024, 128)))[0].T
    np.savez(
        tmp_path / "bank" / "axes.npz",
        mean=np.zeros(1024), scale=np.ones(1024), axes=axes, spread=np.ones(128),
    )  # fmt: skip
    return tmp_path


def arrays(work, name):
    return {p.stem: np.load(p) for p in sorted((work / "bank" / name).glob("*.npy"))}


def test_a_pass_holds_crops_and_what_the_encoder_hears_in_them(bank, corpus, work):
    bank.run_pass("clean", corpus, Envelope(), work)
    stored = arrays(work, "clean")
    x = stored["crops"].astype(np.float32) / 32_767
    heard = Envelope()(x)
    np.testing.assert_allclose(stored["pooled"][:, :1024], heard.mean(2), rtol=2e-3)
    np.testing.assert_allclose(stored["pooled"][:, 1024:], heard.std(2), rtol=2e-2, atol=1e-4)
    assert stored["frames"].shape == (CLIPS, 26, 128)
    # Step k is the mean of the encoder's frames 4 k - 2 to 4 k + 2.
    axes = np.load(work / "bank" / "axes.npz")["axes"]
    expected = heard[:, :, 6:11].mean(axis=2) @ axes.T
    np.testing.assert_allclose(stored["frames"][:, 2], expected, rtol=2e-2, atol=1e-3)


def test_a_killed_pass_goes_on_and_ends_the_same(bank, corpus, work, monkeypatch):
    monkeypatch.setattr(bank, "BATCH", 1)

    class Killed(Envelope):
        def __call__(self, waveforms):
            if self.calls == 40:
                raise KeyboardInterrupt
            return super().__call__(waveforms)

    with pytest.raises(KeyboardInterrupt):
        bank.run_pass("telephone", corpus, Killed(), work)
    rest = Envelope()
    bank.run_pass("telephone", corpus, rest, work)
    assert rest.calls == CLIPS - 32
    broken = arrays(work, "telephone")
    open_bank(work / "bank", ["telephone"])
    for path in (work / "bank" / "telephone").iterdir():
        path.unlink()
    bank.run_pass("telephone", corpus, Envelope(), work)
    for name, whole in arrays(work, "telephone").items():
        np.testing.assert_array_equal(broken[name], whole)


def test_passes_differ_and_a_telephone_has_no_highs(bank, corpus, work):
    clean, again = bank.Pass("clean", corpus, work), bank.Pass("clean-1", corpus, work)
    telephone = bank.Pass("telephone", corpus, work)
    np.testing.assert_array_equal(clean(3), clean(3))
    assert not np.array_equal(clean(3), again(3))
    # The dither behind the codec lies 50 dB or more below the peak, white.
    power = np.abs(np.fft.rfft(telephone(3))) ** 2
    assert power[len(power) * 5 // 8 :].mean() < 0.02 * power[: len(power) // 2].mean()
