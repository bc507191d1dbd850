import numpy as np
import pytest
import torch

from voiceguard.features.sinc import SincEnvelope, SincFilterbank, sinc_filters


def test_filters_pass_their_band_and_stop_the_rest():
    bank = sinc_filters(filters=70, taps=1025, sample_rate=16000).numpy()
    response = np.abs(np.fft.rfft(bank, 8192))
    hz = np.fft.rfftfreq(8192, 1 / 16000)
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 71) / 2595) - 1)
    for index in (20, 40, 60):
        low, high = edges[index : index + 2]
        assert response[index][np.abs(hz - (low + high) / 2).argmin()] == pytest.approx(1, abs=0.02)
        outside = (hz < low - 60) | (hz > high + 60)
        assert response[index][outside].max() < 0.01


def test_bank_sums_to_all_pass():
    bank = sinc_filters(filters=70, taps=129, sample_rate=16000).numpy()
    response = np.fft.rfft(bank.sum(axis=0) * 1.0)
    # The bands tile 0 to 8 kHz, so their sum is a unit impulse at the centre tap.
    assert np.allclose(np.abs(response), 1.0, atol=1e-5)


def test_mask_zeroes_one_run_and_only_in_training(speechlike):
    bank = SincFilterbank(max_mask=20)
    torch.manual_seed(3)
    widths = set()
    for _ in range(20):
        silent = (bank.train()(speechlike[:1, :400])[0].abs().amax(dim=-1) == 0).int()
        widths.add(int(silent.sum()))
        assert int((silent.diff().abs()).sum()) <= 2
    assert max(widths) <= 19 and len(widths) > 5
    assert (bank.eval()(speechlike[:1, :400])[0].abs().amax(dim=-1) > 0).all()


def test_envelope_follows_level():
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / 16000).unsqueeze(0)
    quiet, loud = SincEnvelope()(torch.cat([0.1 * tone, tone]))
    band = int(loud.mean(dim=-1).argmax())
    assert (loud - quiet)[band].mean().item() == pytest.approx(np.log(10), abs=1e-3)
