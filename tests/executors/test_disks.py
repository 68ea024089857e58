"""A disk that can be filled: a real file system, which root alone may mount."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgebench.core.samples import SampleKey
from edgebench.executors import disks
from edgebench.executors.disks import SmallDisk, left_in, why_not
from edgebench.fabric.keep import Keep
from edgebench.fabric.ledger import Ledger
from tests.lab.labs import eventually
from tests.lab_kit.needs import need_root_and


def test_what_is_kept_on_a_full_disk_is_refused_until_there_is_room_and_survives_its_end(tmp_path: Path) -> None:
    need_root_and("mount", "umount")
    folder = tmp_path / "Mü 1" / "store"
    disk = SmallDisk(folder)
    try:
        assert left_in(tmp_path) == [folder]
        keep = Keep(folder / "w.outbox")
        assert keep.put(SampleKey("bed", 0, 0), b"first")
        spare = os.open(folder / "spare", os.O_RDWR | os.O_CREAT)
        os.write(spare, bytes(1_000_000))
        disk.fill()
        assert not keep.put(SampleKey("bed", 0, 1), bytes(10_000))
        # What is given back meanwhile is taken, too.
        os.ftruncate(spare, 0)
        eventually(lambda: not os.statvfs(folder).f_bfree)
        assert not keep.put(SampleKey("bed", 0, 1), bytes(10_000))
        disk.free()
        assert keep.put(SampleKey("bed", 0, 2), bytes(10_000))
        keep.close()
        os.close(spare)
    finally:
        disk.close()
    assert left_in(tmp_path) == []
    again = Keep(folder / "w.outbox")
    assert list(again) == [SampleKey("bed", 0, 0), SampleKey("bed", 0, 2)]
    again.close()


def test_an_answer_that_a_full_disk_has_no_room_for_is_not_given(tmp_path: Path) -> None:
    need_root_and("mount", "umount")
    disk = SmallDisk(tmp_path / "store")
    key, sent = SampleKey("bed", 0, 0), list[str]()
    try:
        path = tmp_path / "store" / "w.ledger"
        ledger = Ledger(path, "process", answer_again=lambda _key, _reply: None, answer_gone=lambda _key: None)
        disk.fill()
        assert ledger.takes(key)
        assert not ledger.answered(key, b"yes", lambda: sent.append("full"))
        disk.free()
        assert ledger.takes(key)  # as if it had never come
        assert ledger.answered(key, b"yes", lambda: sent.append("free"))
        ledger.close()
    finally:
        disk.close()
    assert sent == ["free"]


def test_why_there_can_be_no_such_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    need_root_and("mount", "umount")
    assert why_not() is None
    monkeypatch.setattr(disks, "SIZE_MB", -1)
    assert "a small disk cannot be had here" in (why_not() or "")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert why_not() == "a small disk is mounted for it, which wants root"
