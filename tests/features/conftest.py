import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def speechlike():
    """Two seconds, batch of three: harmonics with a moving envelope over faint noise."""
    generator = torch.Generator().manual_seed(7)
    t = torch.arange(32000) / 16000
    harmonics = sum(torch.sin(2 * torch.pi * 140 * k * t) / k for k in range(1, 12))
    envelope = 0.5 + 0.5 * torch.sin(2 * torch.pi * 3 * t)
    noise = torch.randn(3, 32000, generator=generator)
    gains = torch.tensor([0.1, 0.2, 0.05]).unsqueeze(1)
    return gains * harmonics * envelope + 0.003 * noise
