from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

FIXTURES = Path(__file__).parents[2] / ".." / "shared" / "fixtures" / "metrics"


@pytest.fixture(scope="session")
def published() -> Path:
    """The folder of published score files and of what the official code prints for them."""
    if not (FIXTURES / "expected.json").is_file():
        pytest.skip("the published score files are not beside the repository")
    return FIXTURES


@pytest.fixture(scope="session")
def expected(published: Path) -> dict:
    return json.loads((published / "expected.json").read_text())


@pytest.fixture(scope="session")
def system_scores(published: Path, expected: dict) -> Callable:
    """Scores of one published system: bona fide, spoof, attack of every spoof trial."""

    def load(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        with gzip.open(published / f"asvspoof2019_la_cm_eval_{name}.txt.gz", "rt") as stream:
            rows = [line.split() for line in stream]
        sign = expected[name]["score_sign_for_higher_is_bonafide"]
        values = sign * np.array([float(row[3]) for row in rows])
        spoof = np.array([row[2] == "spoof" for row in rows])
        return values[~spoof], values[spoof], np.array([row[1] for row in rows])[spoof]

    return load


@pytest.fixture(scope="session")
def asv_scores(published: Path) -> dict[str, np.ndarray]:
    """The organisers' verifier on the 2019 LA evaluation, by kind of trial."""
    with gzip.open(published / "asvspoof2019_la_asv_eval_scores.txt.gz", "rt") as stream:
        rows = [line.split() for line in stream]
    return {
        kind: np.array([float(row[2]) for row in rows if row[1] == kind])
        for kind in ("target", "nontarget", "spoof")
    }


@pytest.fixture(scope="session")
def asvspoof5_dev(published: Path) -> np.ndarray:
    """ASVspoof 5 dev: columns asv, cm, kind (1 target, 2 nontarget, 0 spoof)."""
    return np.loadtxt(published / "asvspoof5_dev_asv_cm_scores.csv.gz", delimiter=",", skiprows=1)
