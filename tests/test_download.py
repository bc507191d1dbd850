"""The downloader: what came is counted and hashed, too much is cut off, a failure helps."""

import hashlib
import io
from http.client import IncompleteRead

import pytest

from voiceguard._download import download
from voiceguard.errors import ModelError

URL = "https://host/weights"
WORDS = {"name": "far", "otherwise": "run: this FILE"}


def fetch(tmp_path, content, *, limit, progress=None):
    return download(
        URL,
        tmp_path / "file",
        limit=limit,
        expected=limit,
        progress=progress,
        opener=lambda url: io.BytesIO(content),
        **WORDS,
    )


@pytest.mark.parametrize("size", [0, 1, 65_536, 200_000])
def test_what_came_is_written_counted_and_hashed(tmp_path, size):
    content, seen = (b"weights" * 30_000)[:size], []
    received = fetch(tmp_path, content, limit=size, progress=lambda *told: seen.append(told))
    assert (tmp_path / "file").read_bytes() == content
    assert (received.size, received.sha256) == (size, hashlib.sha256(content).hexdigest())
    assert seen[-1:] == ([(size, size)] if size else [])


def test_past_the_limit_nothing_more_is_read(tmp_path):
    received = fetch(tmp_path, bytes(10_000_000), limit=100_000)
    assert 100_000 < received.size <= 100_000 + 65_536
    assert (tmp_path / "file").stat().st_size == received.size


@pytest.mark.parametrize("error", [OSError("no route"), IncompleteRead(b"x"), ValueError("scheme")])
def test_a_failure_says_what_to_do(tmp_path, error):
    def fail(url):
        raise error

    with pytest.raises(ModelError, match=r"'far' could not .* https://host.* and run: this FILE"):
        download(URL, tmp_path / "file", limit=1, expected=1, opener=fail, **WORDS)


def test_a_file_that_cannot_be_written_is_a_failure_too(tmp_path):
    with pytest.raises(ModelError, match="could not be fetched"):
        fetch(tmp_path / "absent", b"weights", limit=7)
