"""Models that an earlier life of a node has fetched."""

from __future__ import annotations

import hashlib
from pathlib import Path

from edgebench.fabric.node_process import _is_whole


def test_a_model_that_was_lost_in_part_is_not_taken_for_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.model"
    content = bytes(range(256)) * 40
    digest = hashlib.sha256(content).hexdigest()
    assert not _is_whole(path, digest)
    path.write_bytes(content[:4096] + bytes(len(content) - 4096))  # what a power cut may leave
    assert not _is_whole(path, digest)
    path.write_bytes(content)
    assert _is_whole(path, digest)
