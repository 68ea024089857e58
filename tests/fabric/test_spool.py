"""What a spool holds after its writer's end, however that came."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgebench.fabric.records import Began
from edgebench.fabric.spool import Spool, read_spool


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
