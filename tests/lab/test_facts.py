"""What a machine says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgebench import memory
from edgebench.lab import facts


@pytest.mark.parametrize(("limit", "memory_mb"), [("300000000\n", 300), ("max\n", None), (str(1 << 62), None)])
def test_the_memory_is_what_a_container_may_have_of_it(
    limit: str, memory_mb: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = tmp_path / "absent"
    monkeypatch.setattr(memory, "LIMITS", (memory.Limit(absent, absent, absent),))
    physical_mb = facts.facts_of_this_machine().memory_mb
    (tmp_path / "limit").write_text(limit)
    monkeypatch.setattr(memory, "LIMITS", (*memory.LIMITS, memory.Limit(tmp_path / "limit", absent, absent)))
    assert facts.facts_of_this_machine().memory_mb == (memory_mb or physical_mb)
