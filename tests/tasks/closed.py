"""Folders that may not be read, and who may not."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

NOBODY = 65534
as_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can become another user, whom a folder may be closed to"
)


@contextlib.contextmanager
def nobody(tmp_path: Path) -> Iterator[None]:
    """Be a user whom a folder may be closed to, and to whom `tmp_path` is open."""
    for place in (*tmp_path.parents, tmp_path):
        if place.stat().st_uid == os.geteuid() and place.name.startswith(("pytest", "test_", "popen")):
            place.chmod(0o755)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
