"""The suite that every front end passes."""

import sys

import pytest
import torch

from voiceguard.errors import MissingExtraError, ParameterError
from voiceguard.features import build_front_end, front_ends

DIFFERENTIABLE = [name for name in front_ends() if not name.startswith(("cqt", "cqcc"))]


@pytest.fixture(scope="module", params=front_ends())
def front_end(request):
    return build_front_end(request.param).eval()


def test_shape_is_as_announced(front_end, speechlike):
    for length in (16000, 20011):
        features = front_end(speechlike[:, :length])
        expected = (3, front_end.channels, front_end.coefficients, front_end.frames(length))
        assert features.reshape(expected).shape == expected
        assert features.ndim == (4 if front_end.channels > 1 else 3)
        assert features.dtype == torch.float32


def test_rows_do_not_depend_on_their_batch(front_end, speechlike):
    together = front_end(speechlike)
    alone = torch.cat([front_end(row.unsqueeze(0)) for row in speechlike])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_same_input_gives_same_output(front_end, speechlike):
    assert torch.equal(front_end(speechlike), front_end(speechlike))


def test_silence_is_finite(front_end):
    assert torch.isfinite(front_end(torch.zeros(1, 16000))).all()


def test_features_depend_on_the_waveform(front_end, speechlike):
    features = front_end(speechlike)
    assert (features[0] - features[2]).abs().max() > 1e-2


def test_no_buffer_enters_the_state_dict(front_end):
    assert not front_end.state_dict()


@pytest.mark.parametrize("name", DIFFERENTIABLE)
@pytest.mark.parametrize("scale", [1.0, 0.0], ids=["speech", "silence"])
def test_gradient_is_finite_and_reaches_the_waveform(name, scale, speechlike):
    waveform = (scale * speechlike[:1]).requires_grad_()
    build_front_end(name)(waveform).square().sum().backward()
    assert torch.isfinite(waveform.grad).all()
    if scale:
        # Whole frames only: the last samples may lie under none.
        assert (waveform.grad[:, 1000:-1000] != 0).float().mean() > 0.99


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_autocast_changes_nothing(name, speechlike):
    front_end = build_front_end(name)
    expected = front_end(speechlike)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(front_end(speechlike), expected)


@pytest.mark.parametrize("bad", [torch.zeros(16000), torch.zeros(1, 1, 16000)])
def test_wrong_shape_is_refused(front_end, bad):
    with pytest.raises(ParameterError, match=r"\(batch, n\)"):
        front_end(bad)


def test_integers_are_refused(front_end):
    with pytest.raises(ParameterError, match="floating"):
        front_end(torch.zeros(1, 16000, dtype=torch.int16))


def test_too_short_is_refused(front_end):
    with pytest.raises(ParameterError, match="one frame"):
        front_end(torch.zeros(1, 0))


def test_unknown_name_and_option_are_refused():
    with pytest.raises(ParameterError, match="'lfcc'"):
        build_front_end("lfcc")
    with pytest.raises(ParameterError, match="banana"):
        build_front_end("mfcc", banana=1)


def test_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "voiceguard.features.mel", None)
    with pytest.raises(MissingExtraError, match=r"voiceguard\[train\]"):
        build_front_end("mfcc")
