"""Whole patients are dealt to devices, and each device reads its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgebench.errors import DataError
from edgebench.federated.partition import (
    PARTITION_FILES,
    PartFigures,
    PartitionFile,
    PartRows,
    describe,
    fetch_parts,
    partition,
    write_partitions,
)
from edgebench.tasks.task import Split
from edgebench.topology.model import Dirichlet, Iid, Natural, Partition

PLANS: tuple[Partition, ...] = (Iid(), Dirichlet(alpha=0.3), Natural())


def _split(sizes: list[int], labels: list[float], keys: list[int] | None = None) -> Split:
    """Patient i has sizes[i] samples, all with labels[i], and comes from keys[i]; patients' samples are interleaved."""
    patient = np.concatenate([np.arange(len(sizes))[np.array(sizes) > turn] for turn in range(max(sizes))])
    return Split(
        x=np.arange(2 * len(patient), dtype=np.float32).reshape(-1, 2),
        y=np.array(labels, np.float32)[patient, None],
        group=100 + patient,
        key=None if keys is None else np.array(keys)[patient],
    )


def _ward(patients: int = 60) -> Split:
    index = range(patients)
    return _split([1 + i % 3 for i in index], [float(i % 4 == 0) for i in index], [i % 3 + 1 for i in index])


def _patients(split: Split, parts: list[np.ndarray]) -> list[set[int]]:
    return [set(split.group[rows].tolist()) for rows in parts]


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("parts", [1, 2, 8, 60])
def test_every_row_is_in_one_part_every_patient_too_and_no_part_is_empty(plan: Partition, parts: int) -> None:
    split = _ward()
    found = partition(split, plan, parts, 7)
    assert len(found) == parts
    assert np.array_equal(np.sort(np.concatenate(found)), np.arange(len(split)))
    patients = _patients(split, found)
    assert sum(map(len, patients)) == 60
    assert min(map(len, patients)) >= 1
    assert all((np.diff(rows) > 0).all() for rows in found)


@pytest.mark.parametrize("plan", PLANS)
def test_a_seed_repeats_its_partition_and_another_gives_another(plan: Partition) -> None:
    split = _ward()
    one, again, other = (_patients(split, partition(split, plan, 8, seed)) for seed in (3, 3, 4))
    assert one == again
    assert one != other


def test_iid_parts_differ_by_one_patient_at_most() -> None:
    split = _ward()
    assert sorted(map(len, _patients(split, partition(split, Iid(), 8, 1)))) == [7, 7, 7, 7, 8, 8, 8, 8]


def test_dirichlet_parts_are_alike_for_a_large_alpha_and_apart_for_a_small_one() -> None:
    split = _split([1] * 400, [float(i % 4 == 0) for i in range(400)])

    def positive(alpha: float) -> list[float]:
        return [p.label_shares[1] for p in describe(split, partition(split, Dirichlet(alpha=alpha), 4, 7))]

    # 100 positive and 300 negative patients: 25 and 75 on each of the four.
    assert positive(1e6) == [0.25] * 4
    apart = positive(0.05)
    assert min(apart) < 0.05
    assert max(apart) > 0.9


@pytest.mark.parametrize("alpha", [1e-3, 0.1])
def test_no_dirichlet_part_is_empty_where_one_would_take_all(alpha: float) -> None:
    split = _split([1] * 30, [0.0] * 30)
    sizes = [len(rows) for rows in partition(split, Dirichlet(alpha=alpha), 20, 7)]
    assert sum(sizes) == 30
    assert min(sizes) == 1


def test_a_patient_has_the_label_of_most_of_its_samples() -> None:
    # Patient 0: 0, 1, 1. Patient 1: 0, 1. With a label each, both parts hold one of them.
    split = Split(np.zeros((5, 1)), np.array([[0], [1], [1], [0], [1]], np.float32), np.array([0, 0, 0, 1, 1]))
    found = partition(split, Dirichlet(alpha=1e6), 2, 1)
    assert sorted(rows.tolist() for rows in found) == [[0, 1, 2], [3, 4]]


def test_several_label_columns_are_classes() -> None:
    y = np.eye(3, dtype=np.float32)[[2, 0, 1, 2]]
    split = Split(np.zeros((4, 1)), y, np.arange(4))
    assert describe(split, [np.array([0, 3]), np.array([1, 2])]) == (
        PartFigures(rows=2, groups=2, label_shares=(0.0, 0.0, 1.0)),
        PartFigures(rows=2, groups=2, label_shares=(0.5, 0.5, 0.0)),
    )


def test_natural_parts_are_allotted_by_the_patients_of_each_key() -> None:
    # 10, 30 and 20 patients over 6 parts. One each leaves 3: to 30, then to 20 (20 > 15), then to 30 (15 > 10).
    keys = [5] * 10 + [6] * 30 + [9] * 20
    split = _split([1] * 60, [0.0] * 60, keys)
    assert split.key is not None
    found = partition(split, Natural(), 6, 1)
    assert [set(split.key[rows].tolist()) for rows in found] == [{5}, {6}, {6}, {6}, {9}, {9}]
    assert [len(rows) for rows in found] == [10, 10, 10, 10, 10, 10]


def test_natural_keys_are_packed_where_there_are_more_of_them_than_parts() -> None:
    # 9 | 7, then 5 onto the 7 (12), 4 onto the 9 (13), 1 onto the 12.
    keys = [1] * 5 + [2] * 9 + [3] * 1 + [4] * 7 + [5] * 4
    split = _split([1] * 26, [0.0] * 26, keys)
    assert split.key is not None
    assert [set(split.key[rows].tolist()) for rows in partition(split, Natural(), 2, 1)] == [{2, 5}, {1, 3, 4}]


def test_a_patient_with_two_keys_stays_whole() -> None:
    split = Split(np.zeros((4, 1)), np.zeros((4, 1), np.float32), np.array([0, 0, 0, 1]), np.array([8, 7, 7, 8]))
    assert [rows.tolist() for rows in partition(split, Natural(), 2, 1)] == [[0, 1, 2], [3]]


def test_a_key_never_gets_more_parts_than_it_has_patients() -> None:
    split = _split([1] * 10, [0.0] * 10, [1] + [2] * 9)
    assert [len(rows) for rows in partition(split, Natural(), 10, 1)] == [1] * 10


def test_fewer_patients_than_devices_is_an_error_with_the_mend() -> None:
    with pytest.raises(DataError, match=r"^eICU: 3 patients .* to 8 devices; take at most 3 devices, or more data$"):
        partition(_ward(3), Iid(), 8, 1, source="eICU")


def test_data_without_a_natural_key_is_an_error_with_the_mend() -> None:
    with pytest.raises(DataError, match=r"^generated: .* set partition to iid or dirichlet$"):
        partition(_split([1, 1], [0, 1]), Natural(), 2, 1, source="generated")


def test_parts_are_described_by_rows_patients_and_labels() -> None:
    split = _split([3, 1, 1], [1, 0, 0])
    found = describe(split, [np.flatnonzero(split.group < 102), np.flatnonzero(split.group == 102)])
    assert found == (PartFigures(4, 2, (0.25, 0.75)), PartFigures(1, 1, (1.0, 0.0)))


def whole(part: PartRows) -> NDArray[Any]:
    return part[np.arange(len(part))]


def test_each_client_reads_its_own_rows_from_the_files(tmp_path: Path) -> None:
    split = _ward()
    parts = partition(split, Dirichlet(alpha=0.5), 7, 3)
    write_partitions(split, parts, tmp_path / "new")
    assert {path.name for path in (tmp_path / "new").iterdir()} == set(PARTITION_FILES)
    file = PartitionFile(tmp_path / "new")
    assert len(file) == 7
    for index, rows in enumerate(parts):
        x, y = map(whole, file.part(index))
        assert np.array_equal(x, split.x[rows])
        assert np.array_equal(y, split.y[rows])
        assert [str(a.dtype) for a in (x, y)] == ["float32", "float32"]


def test_rows_come_in_the_order_asked_for_and_never_those_of_other_clients(tmp_path: Path) -> None:
    split = _ward()
    write_partitions(split, [np.arange(50), np.arange(50, 120)], tmp_path)
    x, _ = PartitionFile(tmp_path).part(1)
    assert np.array_equal(x[np.array([3, 0, 3])], split.x[[53, 50, 53]])
    assert x[np.array([], np.int64)].shape == (0, *split.x.shape[1:])
    for row in (-1, 70):
        with pytest.raises(IndexError, match=f"row .*{row} of 70"):
            x[np.array([row])]


@pytest.mark.parametrize("index", [-1, 2])
def test_a_part_that_is_not_there_is_named(tmp_path: Path, index: int) -> None:
    write_partitions(_ward(), [np.array([0]), np.array([1, 2])], tmp_path)
    with pytest.raises(DataError, match=f"no part {index} among 2"):
        PartitionFile(tmp_path).part(index)


def test_files_that_are_cut_off_or_of_another_form_are_named(tmp_path: Path) -> None:
    write_partitions(_ward(), [np.arange(50), np.arange(50, 120)], tmp_path)
    uncut = (tmp_path / "x.npy").read_bytes()
    file = PartitionFile(tmp_path)
    (tmp_path / "x.npy").write_bytes(uncut[:-8])
    with pytest.raises(DataError, match=r"x\.npy: ends before row 120"):
        whole(file.part(1)[0])
    assert len(whole(file.part(0)[0])) == 50
    (tmp_path / "starts.npy").write_bytes(b"")
    with pytest.raises(DataError, match="not the parts of a data set"):
        PartitionFile(tmp_path)


def test_only_the_rows_of_the_wanted_parts_are_fetched_and_neighbours_at_once(tmp_path: Path) -> None:
    # x: 100 float32 a row.
    split = Split(
        np.arange(120_000, dtype=np.float32).reshape(1200, 100), np.ones((1200, 1), np.float32), np.arange(1200)
    )
    there, here = tmp_path / "there", tmp_path / "here"
    write_partitions(split, [np.arange(start, start + 300) for start in (0, 300, 600, 900)], there)
    here.mkdir()
    asked = []

    def fetch(name: str, start: int, end: int) -> None:
        asked.append((name, end - start))
        read = (there / name).read_bytes()
        with (here / name).open("ab") as file:
            file.truncate(len(read))
        with (here / name).open("r+b") as file:
            file.seek(start)
            file.write(read[start:end])

    fetch_parts([3, 0, 1], here, fetch)
    assert [each for each in asked if each[1] >= 300 * 4 and each[1] != 4096] == [
        ("x.npy", 600 * 400),
        ("y.npy", 600 * 4),
        ("x.npy", 300 * 400),
        ("y.npy", 300 * 4),
    ]
    file = PartitionFile(here)
    for index in (0, 1, 3):
        assert np.array_equal(whole(file.part(index)[0]), split.x[index * 300 : (index + 1) * 300])
    assert not whole(file.part(2)[0]).any()
    with pytest.raises(DataError, match="no part 4 among 4"):
        fetch_parts([4], here, fetch)
