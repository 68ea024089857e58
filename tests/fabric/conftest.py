from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fabric.relaying import Server


@pytest.fixture
def server() -> Iterator[Server]:
    """What routes lead to."""
    made = Server()
    with made.listener:
        yield made
