import numpy as np
import pytest
import torch

from voiceguard.errors import ParameterError
from voiceguard.models.resnet import (
    AttentiveStatistics,
    PreActivationBlock,
    ResNet18,
    ResNet18Config,
)

TINY = {"stem": 2, "widths": (2, 3, 4, 5), "pooled": 4, "embedding": 3}


def block_count(before, after):
    shortcut = before * after if before != after else 0
    return 2 * before + 2 * after + 9 * before * after + 9 * after * after + shortcut


def test_parameter_count_is_that_of_the_listed_layers():
    stages = sum(
        block_count(before, after) + block_count(after, after)
        for before, after in [(16, 64), (64, 128), (128, 256), (256, 512)]
    )
    stem = 9 * 3 * 16 + 2 * 16
    pooling = 512 * 256 * 3 * 3 + 2 * 256 + 256
    last = (512 * 256 + 256) + 256
    model = ResNet18()
    assert sum(p.numel() for p in model.parameters()) == stem + stages + pooling + last


@pytest.mark.parametrize(
    ("front_end", "options"),
    [("lfcc_asvspoof2019", {}), ("lfcc_gmm2021", {}), ("log_mel", {"mels": 7}), ("mfcc", {})],
)
def test_any_height_comes_down_to_one_row(front_end, options):
    config = ResNet18Config(front_end=front_end, front_end_options=options, **TINY)
    output = ResNet18(config).eval()(0.1 * torch.randn(2, 8000))
    assert output.logits.shape == (2, 2)


def test_block_without_its_convolutions_is_the_identity():
    block = PreActivationBlock(3, 3, stride=1).eval()
    torch.nn.init.zeros_(block.conv2.weight)
    image = torch.randn(2, 3, 5, 6)
    assert torch.equal(block(image), image)


def test_shortcut_is_projected_behind_the_first_activation():
    block = PreActivationBlock(1, 1, stride=2).eval()
    torch.nn.init.zeros_(block.conv2.weight)
    torch.nn.init.ones_(block.shortcut.weight)
    image = torch.tensor([[-1.0, 9.0, 2.0], [9.0, 9.0, 9.0]]).view(1, 1, 2, 3)
    norm = 1.0 / np.sqrt(1.0 + 1e-5)
    assert block(image).flatten().tolist() == pytest.approx([0.0, 2.0 * norm])


def test_attentive_statistics_are_the_formula():
    pooling = AttentiveStatistics(3)
    frames = torch.randn(2, 6, 3)
    given = pooling(frames).detach().numpy()
    vector = pooling.weight.detach().numpy()[0]
    for row, one in zip(given, frames.numpy(), strict=True):
        weights = np.exp(np.tanh(one @ vector))
        weighted = one * (weights / weights.sum())[:, None]
        expected = np.concatenate([weighted.sum(axis=0), weighted.std(axis=0, ddof=1)])
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-6)


def test_constant_frames_have_a_finite_gradient():
    pooling = AttentiveStatistics(3)
    frames = torch.ones(1, 4, 3, requires_grad=True)
    pooling(frames).sum().backward()
    assert torch.isfinite(frames.grad).all()


def test_one_class_score_is_a_cosine():
    model = ResNet18(ResNet18Config(**TINY)).eval()
    output = model(0.1 * torch.randn(4, 8000))
    embedding, centre = output.embedding.detach().numpy(), model.head.centres.detach().numpy()[0]
    norms = np.linalg.norm(embedding, axis=1) * np.linalg.norm(centre)
    np.testing.assert_allclose(
        model.score(output).detach().numpy(), embedding @ centre / norms, rtol=1e-4, atol=1e-6
    )


def test_shortest_input_is_nine_frames():
    model = ResNet18(ResNet18Config(**TINY)).eval()
    samples = 320 + 8 * 160
    assert torch.isfinite(model(torch.randn(1, samples)).logits).all()
    with pytest.raises(ParameterError, match="9 frames"):
        model(torch.randn(1, samples - 1))
