"""The codecs of the mini corpora are as wide, and as lossy, as their names say."""

import numpy as np
import pytest

RATE = 16_000


@pytest.fixture(scope="module")
def layouts(mini_scripts):
    return mini_scripts["mini_layouts"]


@pytest.mark.parametrize("name", ["alaw", "pstn", "ulaw", "gsm", "none", "g722", "opus"])
def test_a_la_codec_is_as_wide_as_it_says(name, layouts):
    x = 0.1 * np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    y = layouts.LA_CODECS[name](x)
    power = np.abs(np.fft.rfft(y)) ** 2
    share = power[len(power) // 2 + 100 :].sum() / power.sum()
    assert (share < 1e-3) == (name in {"alaw", "pstn", "ulaw", "gsm"})
    assert (name == "none") == np.array_equal(x, y)


def test_df_compression_at_the_low_rate_loses_more(layouts, hum):
    x = hum(300, 0) + 0.05 * np.random.default_rng(0).standard_normal(11_200).astype(np.float32)
    for kind, delay in (("mp3", 0), ("ogg", 0), ("m4a", 1_024)):
        error = {
            rate: np.mean(
                (layouts.DF_CODECS[f"{rate}_{kind}"](x)[delay:] - x[: 11_200 - delay]) ** 2
            )
            for rate in ("low", "high")
        }
        assert 0 < error["high"] < error["low"]
