from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgebench.placement.exact import end_solver


@pytest.fixture(scope="module", autouse=True)
def no_solver_is_left() -> Iterator[None]:
    yield
    end_solver()
