"""Topologies by name: those that ship."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edgebench.cli import main
from edgebench.errors import TopologyError
from edgebench.executors.disks import SmallDisk
from edgebench.topology import load, topology_file
from tests.conftest import ROOT
from tests.topology.sound import SOUND


def test_a_name_means_the_topology_that_ships(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(topology_file("icu-ward")).name == "icu-ward"
    (tmp_path / "vehicle").mkdir()
    assert load(topology_file("vehicle")).name == "vehicle"


def test_a_file_of_that_name_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "icu-ward").write_text(SOUND)
    assert topology_file("icu-ward") == Path("icu-ward")


def test_a_name_of_nothing_is_one_line_with_what_was_perhaps_meant(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TopologyError) as raised:
        topology_file("icu-wrad")
    assert str(raised.value) == "icu-wrad: neither a file nor a topology that ships (did you mean 'icu-ward'?)"
    with pytest.raises(TopologyError, match=r"icu-ward\.yaml: no such file \(did you mean 'icu-ward', which ships\?\)"):
        load(topology_file("icu-ward.yaml"))


def test_the_topologies_are_listed_with_what_they_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["topologies"]) == 0
    lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert sorted(lines) == sorted(file.stem for file in (ROOT / "topologies").glob("*.yaml"))
    assert lines["icu-ward"].strip().startswith("Eight bedside devices on two wards stream three ICU tasks.")


def test_init_copies_one_and_never_over_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for words, made in (([], "city.yaml"), (["--out", "mine.yaml"], "mine.yaml"), (["--out", ".."], "../city.yaml")):
        assert main(["init", "city", *words]) == 0
        assert capsys.readouterr().out == f"{made}\n"
        assert Path(made).read_bytes() == (ROOT / "topologies" / "city.yaml").read_bytes()
        assert main(["init", "city", *words]) == 2
        assert capsys.readouterr().err == f"{made}: is there already (name another with --out)\n"
    assert main(["init", "cty"]) == 2
    assert capsys.readouterr().err == "cty: no topology that ships (did you mean 'city'?)\n"


def test_the_wheel_has_the_topologies_and_its_type_marks(tmp_path: Path) -> None:
    """Unpacked somewhere else, as pip does: no clone is needed."""
    if importlib.util.find_spec("hatchling") is None and os.environ.get("CI") != "true":
        pytest.skip("no hatchling, which builds the wheel (pip install 'edgebench[test]')")
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    site = tmp_path / "site"
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(site)
    code = "import edgebench, sys; print(edgebench.load('icu-ward').path); sys.exit('keras' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == str(site / "edgebench" / "topologies" / "icu-ward.yaml")
    for package in ("edgebench", "cloud", "edge_node", "device_agent"):
        assert (site / package / "py.typed").exists()


def test_init_on_a_full_disk_names_it_and_leaves_no_half_of_a_file(
    tmp_path: Path, disk: SmallDisk, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "disk"
    disk.fill()
    assert main(["init", "city", "--out", str(place)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"{place}: the disk at {place} is full, or your share of it is (0 MB left): ")
    assert err.endswith(": make room, and give the command again\n")
    disk.free()
    assert main(["init", "city", "--out", str(place)]) == 0
