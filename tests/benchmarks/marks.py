"""What every benchmark that compares says of the machine meanwhile."""

from __future__ import annotations

from typing import Any

MARKS = {"disturbed", "watched"}


def check_marks(figures: dict[str, Any], *, watched: int) -> None:
    """So many pairs were watched, and the mark says whether others disturbed any of them. Tests go on in any case."""
    pairs = figures["watched"]
    assert len(pairs) == watched
    for pair in pairs:
        assert set(pair) == {"what", "foreign", "stolen", "pressure", "load", "disturbed"}
        assert pair["disturbed"] == (pair["foreign"] + pair["stolen"] > 0.05)
    assert figures["disturbed"] == any(pair["disturbed"] for pair in pairs)
