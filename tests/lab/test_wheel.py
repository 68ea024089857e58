"""The lab's own wheel: packed from what runs here, pinned by its hash, and installed by the line that invites."""

from __future__ import annotations

import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import edgebench
from edgebench.lab.wheel import code_digest, own_wheel
from tests.conftest import ROOT
from tests.lab.labs import Lab

PRINT_DIGEST = "from edgebench.lab.wheel import code_digest; print(code_digest())"


def test_a_wheel_is_what_runs_here_and_the_same_when_it_is_packed_again(tmp_path: Path) -> None:
    one, two = own_wheel(tmp_path / "one"), own_wheel(tmp_path / "two")
    assert one.path.read_bytes() == two.path.read_bytes()
    assert one.path.name == f"edgebench-{edgebench.__version__}+lab.c{code_digest()[:10]}-py3-none-any.whl"
    with zipfile.ZipFile(one.path) as wheel:
        names = set(wheel.namelist())
    for package in ("cloud", "device_agent", "edge_node", "edgebench"):
        sources = {file.relative_to(ROOT).as_posix() for file in (ROOT / package).rglob("*.py")}
        assert sources <= names
    shipped = {f"edgebench/topologies/{file.name}" for file in (ROOT / "topologies").glob("*.yaml")}
    assert shipped <= names
    assert not any("__pycache__" in name or name.startswith("tests") for name in names)


@pytest.mark.parametrize("is_it", [True, False])
def test_the_line_that_is_printed_installs_that_wheel_and_no_other(lab: Lab, tmp_path: Path, is_it: bool) -> None:
    line = lab.client.invite().install
    venv, activate, pip = (shlex.split(part) for part in line.split(" && "))
    assert venv == ["python3", "-m", "venv", "--system-site-packages", "~/edgebench"]
    assert activate == [".", "~/edgebench/bin/activate"]
    assert pip[:2] == ["pip", "install"]
    if not is_it:  # somebody between the board and the lab
        (wheel,) = (lab.home / "lab" / "wheels").glob("*.whl")
        wheel.write_bytes(wheel.read_bytes() + b"\0")
    target = tmp_path / "site"
    options = ["--no-deps", "--no-cache-dir", "--disable-pip-version-check", "--target", str(target)]
    done = subprocess.run(
        [sys.executable, "-m", *pip, *options],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "no_proxy": "*"},
    )
    if not is_it:
        assert done.returncode != 0
        assert "DO NOT MATCH THE HASHES" in done.stderr
        assert not target.exists()
        return
    assert done.returncode == 0, done.stderr
    said = subprocess.run(
        [sys.executable, "-c", PRINT_DIGEST],
        cwd=tmp_path,
        env={"PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
    )
    assert said.stdout.strip() == code_digest(), said.stderr
    assert (target / "bin" / "edgebench").exists()


def test_a_machine_that_runs_other_code_is_told_the_line_that_mends_it(lab: Lab, tmp_path: Path) -> None:
    import msgspec

    from tests.lab.labs import eventually

    said: list[str] = []
    with lab.link(tmp_path / "pi", "pi") as pi:
        eventually(lambda: lab.info("pi").present)
        assert lab.info("pi").same_code
    with lab.link(tmp_path / "pi") as pi:
        pi.link._tell = said.append
        pi.link._facts = msgspec.structs.replace(pi.link._facts, code="another")
        eventually(lambda: said)
        assert not lab.info("pi").same_code
    mend = lab.client.invite().install.partition("pip install ")[2]
    line = f"{sys.executable} -m pip install {mend}"
    assert said == [f"this machine runs other code than the lab; join again after: {line}"]
    assert lab.info("pi").mend == line
