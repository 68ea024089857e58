"""What a spool holds after its writer's end, however that came."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgebench.core.tallies import Tally
from edgebench.fabric.records import Began, TallySnapshot
from edgebench.fabric.spool import Spool, encoded, read_spool


@pytest.mark.parametrize("left", [b"", b"\x00\x00", b"\x00\x00\x00\x09half", bytes(4096)], ids=str)
def test_a_spool_goes_on_after_its_last_whole_entry(tmp_path: Path, left: bytes) -> None:
    path = tmp_path / "records.spool"
    with_one = Spool(path)
    with_one.write(Began(1, 2))
    with_one.close()
    with path.open("ab") as file:
        file.write(left)  # a killed writer breaks off; of a power cut, zeros are left where nothing was written yet
    assert list(read_spool(path)) == [Began(1, 2)]
    again = Spool(path)
    again.write(Began(3, 4))
    again.close()
    assert list(read_spool(path)) == [Began(1, 2), Began(3, 4)]


def test_what_a_device_has_counted_takes_a_hundred_bytes_and_zeros_need_not_be_there(tmp_path: Path) -> None:
    counted = TallySnapshot(10**18, "bed-1234", {"death-risk": Tally(scheduled=7_200, sent=7_200, decided=7_199)})
    written = encoded([counted])
    assert len(written) <= 110
    whole = msgspec.msgpack.decode(written[4:])
    whole["incarnation"] = 0
    whole["tallies"]["death-risk"] |= {"missed": 0, "rejected": {}}
    body = msgspec.msgpack.encode(whole)
    (tmp_path / "records.spool").write_bytes(written + len(body).to_bytes(4, "big") + body)
    assert list(read_spool(tmp_path / "records.spool")) == [counted, counted]
