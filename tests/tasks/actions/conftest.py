"""Generated skeletons, made once."""

from __future__ import annotations

import pytest

from edgebench.tasks import task_named
from edgebench.tasks.task import Dataset


@pytest.fixture(scope="session")
def data() -> Dataset:
    return task_named("action-recognition").load(None, seed=1)
