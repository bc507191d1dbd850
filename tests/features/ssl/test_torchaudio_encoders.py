"""The wav2vec 2.0 family against transformers: every layer, alone and padded."""

import pytest
import torch

from voiceguard.errors import ParameterError
from voiceguard.features.ssl import load_encoder

FAMILIES = ("wav2vec2", "hubert", "wavlm")
CASES = [(family, form) for family in FAMILIES for form in ("base", "large")]
TOLERANCE = {"atol": 1e-4, "rtol": 0.0}


def layers_of(model, x, **mask):
    """transformers' layers, the last one after the norm that closes the network."""
    with torch.no_grad():
        out = model(x, output_hidden_states=True, **mask)
    return torch.stack([*out.hidden_states[:-1], out.last_hidden_state], dim=1)


def encoded(encoder, x, lengths=None):
    with torch.no_grad():
        return encoder(x, lengths)


@pytest.mark.parametrize(("family", "form"), CASES)
def test_every_layer_is_that_of_transformers(published, waveform, family, form):
    model, folder = published(family, form)
    ours = encoded(load_encoder(folder, normalize=False), waveform)
    expected = layers_of(model, waveform)
    assert float(expected.abs().max()) > 1.0
    torch.testing.assert_close(ours.layers, expected, **TOLERANCE)
    assert ours.lengths.tolist() == [expected.shape[2]] * 2


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_as_transformers_masks_it(published, waveform, family):
    model, folder = published(family, "large")
    lengths = torch.tensor([9000, 5000])
    mask = (torch.arange(9000) < lengths[:, None]).long()
    ours = encoded(load_encoder(folder, normalize=False), waveform, lengths)
    expected = layers_of(model, waveform * mask, attention_mask=mask)
    for item, frames in enumerate(ours.lengths):
        torch.testing.assert_close(
            ours.layers[item, :, :frames], expected[item, :, :frames], **TOLERANCE
        )


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(("family", "form"), CASES)
def test_padding_is_not_heard(published, waveform, family, form, normalize):
    encoder = load_encoder(published(family, form)[1], normalize=normalize)
    padded = waveform.clone()
    padded[1, 5000:] = torch.nan
    batch = encoded(encoder, padded, torch.tensor([9000, 5000]))
    for item, samples in enumerate((9000, 5000)):
        alone = encoded(encoder, waveform[item : item + 1, :samples])
        frames = int(batch.lengths[item])
        assert frames == encoder.frames(samples) == alone.layers.shape[2]
        torch.testing.assert_close(batch.layers[item, :, :frames], alone.layers[0], **TOLERANCE)
    assert not batch.layers[1, :, int(batch.lengths[1]) :].any()


def test_transformers_hears_the_padding_of_a_base_network(published, waveform):
    """Why the norm over time is done here: the oracle's own batch is not its single result."""
    model, _ = published("wav2vec2", "base")
    padded = waveform.clone()
    padded[1, 5000:] = 0.0
    alone, batch = layers_of(model, waveform[1:, :5000]), layers_of(model, padded)
    assert float((batch[1, 0, : alone.shape[2]] - alone[0, 0]).abs().max()) > 1e-2


def test_normalised_waveforms_ignore_gain_and_offset(published, waveform):
    encoder = load_encoder(published("wav2vec2", "large")[1])
    plain = encoded(encoder, waveform).layers
    torch.testing.assert_close(
        encoded(encoder, 4.0 * waveform + 0.2).layers, plain, atol=0.02, rtol=0
    )
    raw = load_encoder(published("wav2vec2", "large")[1], normalize=False)
    assert float((encoded(raw, 4.0 * waveform + 0.2).layers - plain).abs().max()) > 0.1


def test_final_norm_may_be_left_out(published, waveform):
    model, folder = published("wav2vec2", "large")
    with torch.no_grad():
        bare = model(waveform, output_hidden_states=True)
    ours = load_encoder(folder, normalize=False, final_norm=False, layers=[-1])
    torch.testing.assert_close(
        encoded(ours, waveform).layers[:, 0], bare.hidden_states[-1], **TOLERANCE
    )
    closed = model.encoder.layer_norm(bare.hidden_states[-1])
    torch.testing.assert_close(closed, bare.last_hidden_state)


@pytest.mark.parametrize(("family", "form"), [("wavlm", "base"), ("hubert", "large")])
def test_chosen_layers_are_those_of_all(published, waveform, family, form):
    folder = published(family, form)[1]
    every = encoded(load_encoder(folder), waveform).layers
    some = load_encoder(folder, layers=[2, 0])
    assert (some.n_layers, some.layers, len(some.blocks)) == (2, (2, 0), 2)
    torch.testing.assert_close(encoded(some, waveform).layers, every[:, [2, 0]], **TOLERANCE)


def test_frame_times_are_the_centres_of_what_a_frame_sees(published):
    encoder = load_encoder(published("wav2vec2", "large")[1], layers=[0], normalize=False)
    assert (encoder.receptive_field, encoder.frame_hop_s, encoder.min_samples) == (400, 0.02, 400)
    x = torch.zeros(1, 4000)
    convolved = encoder.network.feature_extractor
    with torch.no_grad():
        still = convolved(x, None)[0]
        moved = []
        for sample in (1600, 1999):
            y = x.clone()
            y[0, sample] = 1.0
            hit = (convolved(y, None)[0] - still).abs().amax(-1)[0].nonzero()[:, 0]
            moved.append((sample, hit))
    times = encoder.frame_times(still.shape[1])
    for sample, hit in moved:
        near = abs(times - sample / 16000) <= 0.0125
        assert hit.tolist() == near.nonzero()[0].tolist()


@pytest.mark.parametrize(
    ("x", "lengths"),
    [
        (torch.zeros(16000), None),
        (torch.zeros(1, 16000, dtype=torch.int16), None),
        (torch.zeros(1, 399), None),
        (torch.zeros(2, 4000), torch.tensor([4000])),
        (torch.zeros(2, 4000), torch.tensor([4000.0, 4000.0])),
        (torch.zeros(2, 4000), torch.tensor([4000, 4001])),
        (torch.zeros(2, 4000), torch.tensor([4000, 399])),
    ],
)
def test_input_that_does_not_fit_is_refused(published, x, lengths):
    with pytest.raises(ParameterError, match="WaveEncoder"):
        load_encoder(published("wav2vec2", "base")[1])(x, lengths)
