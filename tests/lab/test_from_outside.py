"""A lab as other machines see it: real processes at addresses of their own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.lab_kit import scan
from tests.lab_kit.labs import PORT, Lab
from tests.lab_kit.machines import network


def test_a_machine_joins_from_another_address_and_nothing_but_the_labs_port_is_open(tmp_path: Path) -> None:
    with network() as net:
        lab = Lab(net, tmp_path)
        ward = lab.machine("ward")
        lab.join(ward, "--as", "edge")
        assert lab.listed()["ward"]["address"] == ward.address
        seen = json.loads(ward.run(sys.executable, scan.__file__, lab.server.address).stdout)
        assert seen == [{"port": PORT, "tls": "TLSv1.3", "old_tls": False, "plain": ""}]
