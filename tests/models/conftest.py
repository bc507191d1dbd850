from pathlib import Path

import numpy as np
import pytest
import torch

FIXTURES = Path(__file__).resolve().parents[3] / "shared" / "fixtures"


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def published():
    """Folder of the published checkpoints and their outputs."""
    folder = FIXTURES / "aasist"
    if not folder.is_dir():
        pytest.skip("the published AASIST checkpoints (../shared/fixtures/aasist) are absent")
    return folder


@pytest.fixture(scope="session")
def expected(published):
    with np.load(published / "expected.npz") as archive:
        return dict(archive)
