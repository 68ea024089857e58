"""The lab's own wheel: packed from what runs here, pinned by its hash, and installed by the line that invites."""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import edgebench
from edgebench.lab.wheel import code_digest, own_wheel
from tests.conftest import ROOT
from tests.lab.labs import Lab

PACKAGES = ("cloud", "device_agent", "edge_node", "edgebench")
PRINT_DIGEST = "from edgebench.lab.wheel import code_digest; print(code_digest())"
PRINT_WHEEL = "import pathlib, edgebench.lab.wheel as lab; print(lab.own_wheel(pathlib.Path('wheels')).path)"


def about(wheel: Path) -> tuple[set[Requirement], str | None, str]:
    """What pip goes by: what it requires but for tests, of which Python, and the commands that it brings."""
    with zipfile.ZipFile(wheel) as opened:
        (info,) = {name.partition("/")[0] for name in opened.namelist() if ".dist-info/" in name}
        metadata = message_from_bytes(opened.read(f"{info}/METADATA"))
        commands = opened.read(f"{info}/entry_points.txt").decode()
    assert f"{metadata['Name']}-{metadata['Version']}" == info.removesuffix(".dist-info")
    requirements = {Requirement(line) for line in metadata.get_all("Requires-Dist", [])}
    # hatchling writes out what an extra of extras means.
    of_use = {each for each in requirements if not re.search(r"extra == .(test|dev).$", str(each))}
    return of_use, metadata["Requires-Python"], commands


def test_a_wheel_is_what_runs_here_and_the_same_when_it_is_packed_again(tmp_path: Path) -> None:
    one, two = own_wheel(tmp_path / "one"), own_wheel(tmp_path / "two")
    assert one.path.read_bytes() == two.path.read_bytes()
    assert one.path.name.startswith(f"edgebench-{edgebench.__version__}+lab.c")
    with zipfile.ZipFile(one.path) as wheel:
        names = set(wheel.namelist())
    for package in PACKAGES:
        sources = {file.relative_to(ROOT).as_posix() for file in (ROOT / package).rglob("*.py")}
        assert sources <= names
    shipped = {f"edgebench/topologies/{file.name}" for file in (ROOT / "topologies").glob("*.yaml")}
    assert shipped <= names
    assert not any("__pycache__" in name or name.startswith("tests") for name in names)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    made = tmp_path / "clone"
    for folder in (*PACKAGES, "topologies"):
        shutil.copytree(ROOT / folder, made / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "LICENSE", "pyproject.toml"):
        shutil.copy(ROOT / name, made)
    return made


def said_in(clone: Path, code: str) -> str:
    """What Python prints that runs this code, beside the clone."""
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=clone.parent, env={"PYTHONPATH": str(clone)}, capture_output=True, text=True
    )
    assert said.returncode == 0, said.stderr
    return said.stdout.strip()


@pytest.mark.parametrize("file", ["topologies/icu-ward.yaml", "edgebench/__init__.pyi", "edgebench/cli.py"])
def test_a_wheel_has_another_name_when_any_file_in_it_has_changed(clone: Path, file: str) -> None:
    before = said_in(clone, PRINT_WHEEL)
    with (clone / file).open("a") as changed:
        changed.write("# another line\n")
    after, told = said_in(clone, f"{PRINT_WHEEL}; print(lab.own_wheel(pathlib.Path('wheels')).sha256)").split()
    assert after != before
    assert hashlib.sha256((clone.parent / after).read_bytes()).hexdigest() == told


def test_a_wheel_that_was_damaged_is_packed_again(tmp_path: Path) -> None:
    wheel = own_wheel(tmp_path)
    wheel.path.write_bytes(b"cut off")
    assert own_wheel(tmp_path) == wheel
    assert hashlib.sha256(wheel.path.read_bytes()).hexdigest() == wheel.sha256


def test_a_clone_that_has_changed_since_it_was_installed_gives_what_it_requires_now(
    clone: Path, tmp_path: Path
) -> None:
    changed = (clone / "pyproject.toml").read_text().replace("dependencies = [", "dependencies = [\n'brand-new>=7',", 1)
    changed = changed.replace("onnx = [", 'onnx = [\n\'newer; sys_platform == "linux" or python_version < "3.13"\',')
    (clone / "pyproject.toml").write_text(changed)
    wheel = tmp_path / said_in(clone, PRINT_WHEEL)
    assert Requirement("brand-new>=7") in about(wheel)[0]
    assert wheel.name != own_wheel(tmp_path).path.name, "pip would keep what a board has"
    build = (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "built"))
    subprocess.run(build, cwd=clone, capture_output=True, check=True)
    (built,) = (tmp_path / "built").iterdir()
    assert about(wheel)[:2] == about(built)[:2]
    assert sorted(about(wheel)[2].split()) == sorted(about(built)[2].split())


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
        [sys.executable, "-c", f"{PRINT_DIGEST}; {PRINT_WHEEL}"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
    )
    assert said.returncode == 0, said.stderr
    digest, wheel_of_it = said.stdout.split()
    assert digest == code_digest()
    assert about(tmp_path / wheel_of_it) == about(own_wheel(tmp_path).path)
    assert (target / "bin" / "edgebench").exists()


def test_a_machine_that_runs_other_code_is_told_the_line_that_mends_it(lab: Lab, tmp_path: Path) -> None:
    import msgspec

    from tests.lab.labs import eventually

    said: list[str] = []
    with lab.link(tmp_path / "pi", "pi") as pi:
        eventually(lambda: lab.info("pi").present)
        assert lab.info("pi").same_code
    pi = lab.link(tmp_path / "pi")
    pi.link._tell = said.append
    pi.link._facts = msgspec.structs.replace(pi.link._facts, code="another")
    with pi:
        eventually(lambda: said)
        assert not lab.info("pi").same_code
    mend = lab.client.invite().install.partition("pip install ")[2]
    line = f"{sys.executable} -m pip install {mend}"
    assert said == [f"this machine runs other code than the lab; join again after: {line}"]
    assert lab.info("pi").mend == line
