"""Fixtures of the tests of executors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.labs import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """One that is served on loopback by this process."""
    with pytest.MonkeyPatch.context() as patch:
        made = Lab(tmp_path / "server", patch)
        yield made
        made.close()
