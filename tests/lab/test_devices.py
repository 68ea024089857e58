"""A device without Python: its credential in the forms that such devices read."""

from __future__ import annotations

import shutil
import ssl
import stat
import subprocess
from pathlib import Path

import pytest

import edgebench
from edgebench.errors import EdgebenchError
from edgebench.fabric.tls import Trust, client_context, peer_of, server_context, tls_name
from edgebench.lab.devices import HEADER, write_credential
from edgebench.lab.messages import AbsentError, LabError
from tests.fabric.test_tls import shaken
from tests.lab.labs import Lab


def test_a_device_only_board_gets_a_credential_of_its_own_that_the_labs_machines_know(lab: Lab, tmp_path: Path) -> None:
    credential = lab.client.invite_device("esp-1")
    files = write_credential(credential, tmp_path / "esp-1")
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)
    mine = Trust(*(tmp_path / "esp-1" / name for name in ("ca.pem", "device.pem", "device.key")))
    server = server_context(lab.client.here, require_client_certificate=True)
    end = shaken(server, client_context(mine, mutual=True), credential.server_name)
    peer = peer_of(end.getpeercert())
    assert peer is not None
    assert (peer.machine, credential.server_name) == ("esp-1", tls_name("here"))
    assert lab.client.device_password("esp-1") == credential.password
    (info,) = lab.client.machines()
    assert (info.kind, info.role, info.near) == ("device-only", "device", "here")


def test_it_connects_by_address_too_as_mosquittos_programs_do(lab: Lab, tmp_path: Path) -> None:
    credential = lab.client.invite_device("esp-1")
    write_credential(credential, tmp_path / "esp-1")
    context = ssl.create_default_context(cafile=str(tmp_path / "esp-1" / "ca.pem"))
    server = server_context(lab.client.here, require_client_certificate=False)
    assert shaken(server, context, credential.host).version() == "TLSv1.3"


def test_the_programs_of_mosquitto_read_it_from_their_files_so_no_secret_is_in_a_process_list(
    lab: Lab, tmp_path: Path
) -> None:
    credential = lab.client.invite_device("esp-1")
    write_credential(credential, tmp_path / "esp-1")
    options = (tmp_path / "esp-1" / "mosquitto_pub").read_text().splitlines()
    assert options[:4] == [f"-h {credential.host}", "-p 46901", "-u esp-1", f"-P {credential.password}"]


def test_the_header_for_firmware_is_c(lab: Lab, tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here")
    credential = lab.client.invite_device("esp-1")
    write_credential(credential, tmp_path / "esp-1")
    source = tmp_path / "print.c"
    source.write_text(
        f'#include <stdio.h>\n#include "esp-1/{HEADER}"\nint main(void) {{\n'
        '    printf("%s%s%s", EDGEBENCH_AUTHORITY, EDGEBENCH_KEY, EDGEBENCH_TOPIC("death-risk", "sample"));\n'
        "    return 0;\n}\n"
    )
    subprocess.run([compiler, "-Wall", "-Werror", "-o", str(tmp_path / "print"), str(source)], check=True)
    printed = subprocess.run([str(tmp_path / "print")], capture_output=True, check=True).stdout
    assert printed == credential.authority + credential.key + b"eb/now/esp-1/death-risk/sample"


def test_a_credential_does_not_overwrite_another(lab: Lab, tmp_path: Path) -> None:
    credential = lab.client.invite_device("esp-1")
    write_credential(credential, tmp_path / "esp-1")
    with pytest.raises(LabError, match=r"esp-1: is there already \(name another with --out\)"):
        write_credential(credential, tmp_path / "esp-1")


def test_the_machine_whose_broker_it_finds_must_be_one_that_was_heard(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(AbsentError, match="ward: no machine of the lab"):
        lab.client.invite_device("esp-1", near="ward")
    lab.joined(tmp_path / "ward", "ward")
    with pytest.raises(AbsentError, match=r"ward: was not heard yet, so its address is not known \(join it first\)"):
        lab.client.invite_device("esp-1", near="ward")


def test_a_credential_that_cannot_be_written_makes_no_device(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with lab.at(lab.home), pytest.raises(EdgebenchError, match=r"esp-1: cannot be made: .*name another with --out"):
        edgebench.lab_invite_device("esp-1", out=tmp_path / "file" / "esp-1")
    assert "esp-1" not in {each.name for each in lab.client.machines()}
