"""What is known of answers that are no longer kept."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from edgebench.core.samples import SampleKey
from edgebench.errors import FabricError
from edgebench.fabric.forgotten import WINDOW, Forgotten


def keys(*seqs: int, device: str = "bed") -> list[SampleKey]:
    return [SampleKey(device, 0, seq) for seq in seqs]


def add(forgotten: Forgotten, seqs: list[SampleKey]) -> bool:
    forgotten.add(seqs)
    return forgotten.write()


def known(forgotten: Forgotten, upto: int, device: str = "bed") -> list[int]:
    return [key.seq for key in keys(*range(upto), device=device) if key in forgotten]


def test_numbers_with_gaps_are_known_one_by_one_and_by_the_next_life_too(tmp_path: Path) -> None:
    forgotten = Forgotten(tmp_path / "w.forgotten", power=False)
    assert add(forgotten, keys(0, 1, 4, 2, 9))
    assert add(forgotten, keys(7, device="cot"))
    for each in (forgotten, Forgotten(tmp_path / "w.forgotten", power=False)):
        assert known(each, 12) == [0, 1, 2, 4, 9]
        assert known(each, 12, "cot") == [7]
        each.close()


def test_far_behind_the_last_that_is_forgotten_all_count_as_such(tmp_path: Path) -> None:
    forgotten = Forgotten(tmp_path / "w.forgotten", power=False)
    add(forgotten, keys(1, WINDOW + 9))
    assert known(forgotten, 20) == list(range(10))
    add(forgotten, keys(1 << 40))  # what an edge passes on may leap
    assert known(forgotten, 20) == list(range(20))
    forgotten.close()


def test_what_is_known_of_a_device_that_goes_on_for_long_stays_small(tmp_path: Path) -> None:
    path = tmp_path / "w.forgotten"
    forgotten = Forgotten(path, power=False)
    tracemalloc.start()
    try:
        for seq in range(0, 20_000_000, 5_000):
            add(forgotten, keys(seq))
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    forgotten.close()
    assert used < 20_000
    assert path.stat().st_size < 1_100_000


def test_a_crash_while_it_is_written_leaves_what_was_known_before(tmp_path: Path) -> None:
    path = tmp_path / "w.forgotten"
    forgotten = Forgotten(path, power=False)
    add(forgotten, keys(0))
    add(forgotten, keys(1))
    forgotten.close()
    path.write_bytes(path.read_bytes()[:-1])
    forgotten = Forgotten(path, power=False)
    assert known(forgotten, 3) == [0]
    add(forgotten, keys(1, 2))
    forgotten.close()
    forgotten = Forgotten(path, power=False)
    assert known(forgotten, 4) == [0, 1, 2]
    forgotten.close()


def test_only_those_of_whom_more_is_forgotten_are_written(tmp_path: Path) -> None:
    path = tmp_path / "w.forgotten"
    forgotten = Forgotten(path, power=False)
    add(forgotten, [key for number in range(1_000) for key in keys(1, device=f"bed-{number}")])
    all_bytes = path.stat().st_size
    add(forgotten, keys(3, device="bed-7"))
    assert path.stat().st_size - all_bytes < all_bytes / 500
    forgotten.close()


def test_what_was_damaged_is_told(tmp_path: Path) -> None:
    path = tmp_path / "w.forgotten"
    forgotten = Forgotten(path, power=False)
    for seq in range(3):
        add(forgotten, keys(seq))
    forgotten.close()
    written = bytearray(path.read_bytes())
    written[20] ^= 1
    path.write_bytes(written)
    with pytest.raises(FabricError, match=r"w\.forgotten: damaged at byte 0"):
        Forgotten(path, power=False)
