"""Files that machines hand in for the run that holds them, and for no other."""

from __future__ import annotations

import contextlib
import stat
from pathlib import Path
from urllib.parse import quote

import pytest

from edgebench.errors import FabricError
from edgebench.fabric.control import HttpClient
from edgebench.fabric.endpoints import HttpUrl
from edgebench.fabric.tls import tls_name
from edgebench.fabric.transfers import hand_in
from tests.lab.labs import Lab, Machine, eventually


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "records"
    path.write_bytes(bytes(range(256)) * 20_000)
    return path


def held(lab: Lab, pi: Machine) -> None:
    lab.client.hold("run-1", ["pi"], "a test", wait_s=10.0)


def test_a_file_arrives_whole_under_its_run_machine_and_name_for_its_owner_alone(
    lab: Lab, tmp_path: Path, file: Path
) -> None:
    with lab.link(tmp_path / "pi", "pi") as pi:
        held(lab, pi)
        for _ in range(2):  # the second is there already
            pi.link.upload("run-1", "logs/ward-0.log", file)
        place = lab.client.files("run-1") / "pi" / "logs" / "ward-0.log"
        assert place.read_bytes() == file.read_bytes()
        assert stat.S_IMODE(place.stat().st_mode) == 0o600
        assert [each.name for each in place.parent.iterdir()] == ["ward-0.log"]
        lab.client.release("run-1")
        assert not lab.client.files("run-1").exists()


def test_a_broken_upload_goes_on_where_it_was(lab: Lab, tmp_path: Path, file: Path) -> None:
    with lab.link(tmp_path / "pi", "pi") as pi:
        held(lab, pi)
        place = lab.client.files("run-1") / "pi" / "records"
        place.parent.mkdir(parents=True)
        place.with_name("records.part").write_bytes(file.read_bytes()[:3_000_000])
        pi.link.upload("run-1", "records", file)
        assert place.read_bytes() == file.read_bytes()


@pytest.mark.parametrize("name", ["../lab.db", "a/../../b", "/etc/passwd", "a//b", ".hidden", "a/b/c/d/e", "", "a\0b"])
def test_a_name_that_leads_elsewhere_leads_nowhere(lab: Lab, tmp_path: Path, file: Path, name: str) -> None:
    with lab.link(tmp_path / "pi", "pi") as pi:
        held(lab, pi)
        with pytest.raises(FabricError, match="no name of a file to be handed in"):
            pi.link.upload("run-1", name, file)
        assert not lab.client.files("run-1").exists()


def test_a_run_that_does_not_hold_the_machine_gets_nothing_of_it(lab: Lab, tmp_path: Path, file: Path) -> None:
    with lab.link(tmp_path / "pi", "pi") as pi, lab.link(tmp_path / "qi", "qi") as qi:
        eventually(lambda: lab.info("qi").present)
        held(lab, pi)
        with pytest.raises(FabricError, match="qi: is not held by the run run-1"):
            qi.link.upload("run-1", "records", file)
        with pytest.raises(FabricError, match="pi: is not held by the run run-2"):
            pi.link.upload("run-2", "records", file)


def test_a_run_that_has_let_a_machine_go_gets_nothing_more_of_it(lab: Lab, tmp_path: Path, file: Path) -> None:
    with lab.link(tmp_path / "pi", "pi") as pi:
        held(lab, pi)
        lab.client.release("run-1")
        with pytest.raises(FabricError, match="pi: is not held by the run run-1"):
            pi.link.upload("run-1", "records", file)
        assert not lab.client.files("run-1").exists()


def test_who_is_no_machine_hands_nothing_in(lab: Lab, file: Path) -> None:
    url = HttpUrl("127.0.0.1", lab.served.url.port, tls=True, server_name=tls_name("here")).url
    with HttpClient(url, "", trust=lab.client.here) as client, pytest.raises(FabricError, match="not in the lab any"):
        hand_in(client, f"files/{quote('run-1/records', safe='')}", file)


def test_an_upload_of_2_gb_more_than_it_may_be_is_refused_before_it_is_sent(lab: Lab, tmp_path: Path) -> None:
    large = tmp_path / "large"
    with lab.link(tmp_path / "pi", "pi") as pi, large.open("wb") as file:
        held(lab, pi)
        file.truncate(6 << 30)  # a hole
        url = HttpUrl("127.0.0.1", lab.served.url.port, tls=True, server_name=tls_name("here")).url
        with contextlib.closing(HttpClient(url, "", trust=pi.link.trust)) as client:
            asked = f"/v1/uploads/files/run-1%2Flarge?sha256={'0' * 64}&size={6 << 30}"
            with pytest.raises(FabricError, match="413: a file has 4,294,967,296 bytes at most"):
                client.ask("GET", asked, dict)
