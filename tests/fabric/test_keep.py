"""What is kept in a file: in order, by key, after a crash, and after a power cut."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgebench.core.samples import SampleKey
from edgebench.errors import FabricError
from edgebench.fabric.keep import Keep


def key(seq: int, device: str = "bed-0") -> SampleKey:
    return SampleKey(device, 0, seq)


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """As if the disk were full beyond that."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_what_is_kept_is_there_again_in_order_without_what_was_dropped(tmp_path: Path) -> None:
    keep = Keep(tmp_path / "keep")
    for seq in (3, 1, 2):
        assert keep.put(key(seq), b"%d" % seq * 100)
    keep.drop([key(1), key(7)])
    assert (list(keep), keep.size_bytes) == ([key(3), key(2)], 200)
    keep.close()
    again = Keep(tmp_path / "keep")
    assert (list(again), again.size_bytes) == ([key(3), key(2)], 200)
    assert again.get(key(2)) == b"2" * 100
    assert key(1) not in again
    again.close()


def test_samples_of_one_number_are_kept_apart_by_device_its_life_and_who_passed_them_on(tmp_path: Path) -> None:
    largest = (1 << 40) - 1
    keys = [
        SampleKey(device, incarnation, seq, by)
        for device in ("bed-0", "bed-1")
        for incarnation in (0, 3)
        for seq in (largest, 0)
        for by in ("", "ward")
    ]
    keep = Keep(tmp_path / "keep")
    for number, each in enumerate(keys[:-1]):
        keep.put(each, b"%d" % number)
    assert keys[-1] not in keep
    keep.put(keys[0], b"again")  # the last one from now on
    order = [*keys[1:-1], keys[0]]
    assert (list(keep), keep.oldest(3)) == (order, order[:3])
    keep.close()
    again = Keep(tmp_path / "keep")
    assert list(again) == order
    assert [again.get(each) for each in again] == [*(b"%d" % number for number in range(1, len(keys) - 1)), b"again"]
    with pytest.raises(KeyError):
        again.get(SampleKey("nobody", 0, 0))
    again.close()


def test_what_is_kept_survives_the_death_of_who_keeps_it(tmp_path: Path) -> None:
    program = """
import os, sys
from pathlib import Path
from edgebench.core.samples import SampleKey
from edgebench.fabric.keep import Keep
keep = Keep(Path(sys.argv[1]))
for seq in range(10):
    keep.put(SampleKey("bed-0", 0, seq), bytes(1000), lambda: print("kept", flush=True))
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "keep")], check=False, stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout.count(b"kept")) == (-signal.SIGKILL, 10)
    keep = Keep(tmp_path / "keep")
    assert list(keep) == [key(seq) for seq in range(10)]
    keep.close()


def test_a_record_that_a_crash_broke_off_is_cut_off_and_what_comes_next_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "keep"
    keep = Keep(path)
    keep.put(key(0), b"whole")
    keep.put(key(1), b"cut off")
    keep.close()
    os.truncate(path, path.stat().st_size - 3)
    keep = Keep(path)
    assert list(keep) == [key(0)]
    keep.put(key(2), b"next")
    keep.close()
    again = Keep(path)
    assert [again.get(each) for each in again] == [b"whole", b"next"]
    again.close()


def test_zeros_that_a_power_cut_left_at_the_end_are_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "keep"
    keep = Keep(path)
    for seq in range(3):
        keep.put(key(seq), b"x" * 100)
    keep.close()
    whole = path.read_bytes()
    for blank_from in (2 * len(whole) // 3, 2 * len(whole) // 3 + 50):
        path.write_bytes(whole[:blank_from] + bytes(len(whole) - blank_from + 4096))
        keep = Keep(path)
        assert list(keep) == [key(0), key(1)]
        keep.close()


@pytest.mark.parametrize("at", [0.5, 1 / 3 + 0.015], ids=["in a body", "in a length"])
def test_a_flipped_bit_is_told_and_never_taken_for_a_sample(tmp_path: Path, at: float) -> None:
    path = tmp_path / "keep"
    keep = Keep(path)
    for seq in range(3):
        keep.put(key(seq), bytes(100))
    keep.close()
    whole = bytearray(path.read_bytes())
    whole[int(at * len(whole))] ^= 4
    path.write_bytes(whole)
    with pytest.raises(FabricError, match=r"keep: damaged at byte \d+"):
        Keep(path)


def test_the_file_is_no_longer_than_twice_what_is_kept_and_a_mebibyte(tmp_path: Path) -> None:
    path = tmp_path / "keep"
    keep = Keep(path)
    longest = 0
    for seq in range(2_000):
        keep.put(key(seq), bytes(5_000))
        keep.drop([key(seq - 20)])
        longest = max(longest, path.stat().st_size)
    assert longest < 2 * 21 * 5_000 + (1 << 20) + 5_100
    keep.close()
    again = Keep(path)
    assert list(again) == [key(seq) for seq in range(1_980, 2_000)]
    again.drop(again)
    assert path.stat().st_size == 0
    again.close()


def test_before_a_power_cut_is_survived_nothing_is_said_to_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, may_sync = threading.Event(), threading.Event()

    def sync(_fd: int) -> None:
        may_sync.wait(5.0)
        synced.set()

    monkeypatch.setattr("edgebench.fabric.keep._sync", sync)
    keep = Keep(tmp_path / "keep", power=True)
    kept: list[bool] = []
    for seq in range(3):
        assert keep.put(key(seq), b"x", lambda: kept.append(synced.is_set()))
    assert kept == []
    may_sync.set()
    keep.close()
    assert kept == [True, True, True]


def test_a_sync_that_is_asked_for_is_over_when_it_returns_where_power_may_be_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bytes] = []
    monkeypatch.setattr("edgebench.fabric.keep._sync", lambda fd: synced.append(os.pread(fd, 1 << 16, 0)))
    for power in (False, True):
        keep = Keep(tmp_path / f"keep-{power}", power=power)
        keep.put(key(0), b"counted")
        keep.sync()
        keep.close()
    assert [b"counted" in content for content in synced] == [True]


def test_where_the_disk_is_full_it_says_so_and_what_was_kept_stays(tmp_path: Path) -> None:
    path = tmp_path / "keep"
    keep = Keep(path)
    keep.put(key(0), bytes(100))
    whole_bytes = path.stat().st_size
    with files_of_at_most(whole_bytes + 50):
        assert not keep.put(key(1), bytes(100), lambda: pytest.fail("it is not kept"))
    assert (list(keep), path.stat().st_size) == ([key(0)], whole_bytes)
    keep.close()


def test_a_full_disk_is_told_of_once_and_so_is_room(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keep = Keep(tmp_path / "keep")
    with files_of_at_most(50):
        assert not any(keep.put(key(seq), bytes(100)) for seq in range(5))
    for seq in range(5, 8):
        assert keep.put(key(seq), bytes(600_000))
    full, room = (record.getMessage() for record in caplog.records)
    assert full == f"{tmp_path / 'keep'}: no more can be kept: File too large"
    assert room == f"{tmp_path / 'keep'}: there is room again"
    keep.close()


def test_a_store_that_takes_and_refuses_in_turn_at_a_full_disk_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keep = Keep(tmp_path / "keep", passing=True)
    with files_of_at_most(200):
        for seq in range(20):
            assert keep.put(key(seq), bytes(100))
            assert not keep.put(key(100 + seq), bytes(100))
            keep.drop([key(seq)])  # which makes room for one
    keep.close()
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'keep'}: no more can be kept: File too large"
    ]


def test_once_all_has_left_a_file_that_a_full_disk_made_long_is_no_longer_than_any_other(tmp_path: Path) -> None:
    path = tmp_path / "keep"
    keep = Keep(path)
    for seq in range(30):
        keep.put(key(seq), bytes(100_000))
    with files_of_at_most(500_000):
        keep.drop([key(seq) for seq in range(21)])  # it cannot be written anew
    assert path.stat().st_size > 2_900_000
    keep.drop(list(keep))
    most_bytes = 0
    for seq in range(40):
        keep.put(key(seq), bytes(100_000))
        keep.drop([key(seq - 1)])
        most_bytes = max(most_bytes, path.stat().st_size)
    assert most_bytes < 2 * 200_000 + (1 << 20) + 100_000
    keep.close()


def test_where_nothing_was_put_nothing_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr("edgebench.fabric.keep._sync", synced.append)
    keep = Keep(tmp_path / "keep", power=True)
    keep.sync()
    keep.put(key(0), b"x")
    keep.sync()
    keep.drop([key(0)])
    keep.sync()
    keep.close()
    assert len(synced) == 1


def test_who_asks_for_a_sync_waits_for_one_that_another_is_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, may_end, over = threading.Event(), threading.Event(), threading.Event()

    def sync(_fd: int) -> None:
        begun.set()
        assert may_end.wait(5.0)
        over.set()

    monkeypatch.setattr("edgebench.fabric.keep._sync", sync)
    keep = Keep(tmp_path / "keep", power=True)
    keep.put(key(0), b"x")
    first = threading.Thread(target=keep.sync)
    first.start()
    assert begun.wait(5.0)
    threading.Timer(0.05, may_end.set).start()
    keep.sync()
    assert over.is_set()
    first.join()
    keep.close()


def test_what_only_passes_begins_anew_and_writes_nothing_for_what_has_left(tmp_path: Path) -> None:
    path = tmp_path / "keep"
    for _ in range(2):
        keep = Keep(path, passing=True)
        assert list(keep) == []
        for seq in range(3):
            keep.put(key(seq), bytes(100))
        before = path.stat().st_size
        keep.drop([key(0)])
        assert path.stat().st_size == before
        keep.close()
