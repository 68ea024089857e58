"""The boundary of the command line: whatever a user or a machine does wrong is one line and exit status 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from edgebench.cli import main
from edgebench.tasks.task import Size
from tests.topology.sound import SOUND


@pytest.fixture
def topology(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SOUND)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"")
    return path


def refused(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """What a command that must fail says on stderr: one line."""
    assert main([str(word) for word in words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    return err.removesuffix("\n")


def test_an_out_that_cannot_be_is_refused_before_the_run(
    topology: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, "run", topology, "--out", file)
    assert said == f"--out {file}: is a file (name a folder)"
    said = refused(capsys, "run", topology, "--out", file / "runs")
    assert said == f"--out {file}/runs: {file} is a file (name a folder)"


def test_a_registry_that_is_a_file_is_refused(
    topology: Path, tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, "run", topology, "--out", tmp_path / "runs", "--registry", file)
    assert said == f"--registry {file}: is a file (name a folder)"
    assert not (tmp_path / "runs").exists()


def test_what_cannot_be_kept_is_not_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    absent = tmp_path / "absent"
    said = refused(capsys, "train", "icu-death", "--out", absent / "x.tflite")
    assert said == f"--out {absent}/x.tflite: no folder {absent} (make it first)"
    said = refused(capsys, "train", "icu-death", "--out", tmp_path)
    assert said == f"--out {tmp_path}: is a folder (name a file)"
    (tmp_path / "file").write_bytes(b"")
    said = refused(capsys, "train", "icu-death", "--registry", tmp_path / "file")
    assert said == f"--registry {tmp_path}/file: is a file (name a folder)"


def test_an_error_of_the_operating_system_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "n" * 300
    said = refused(capsys, "train", "icu-death", "--out", tmp_path / name / "x")
    assert said == f"edgebench train: {tmp_path}/{name}/x: File name too long"


def test_an_argument_that_a_shell_left_empty_is_not_taken_for_the_folder_where_one_stands(
    topology: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    why = "(is a variable of the shell not set?)"
    for words in (("--data", ""), ("--data=",)):
        assert refused(capsys, "run", topology, *words) == f"edgebench run: nothing stands behind --data {why}"
    assert refused(capsys, "validate", "") == f"edgebench validate: an argument is empty {why}"


def _without(module: str, *words: str) -> subprocess.CompletedProcess[str]:
    code = (
        f"import sys; sys.modules[{module!r}] = None;"
        "from edgebench.cli import main; sys.exit(main(sys.argv[1:]))"
    )  # fmt: skip
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("command", "module"),
    [("run", "rich"), ("run", "jinja2"), ("run", "plotly"), ("run", "pyarrow"), ("train", "rich")],
)
def test_a_base_install_names_the_packages_that_a_command_needs(command: str, module: str, topology: Path) -> None:
    ended = _without(module, command, str(topology) if command == "run" else "icu-death")
    assert (ended.returncode, ended.stdout) == (2, "")
    mend = "pip install 'edgebench[lab]'"
    assert ended.stderr == f"edgebench {command}: needs the lab packages, {module} is absent: {mend}\n"


def test_a_module_of_our_own_that_is_absent_is_a_bug_with_a_traceback(topology: Path) -> None:
    ended = _without("edgebench.topology.resolving", "validate", str(topology))
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr


def test_train_offers_the_sizes_that_a_task_can_have(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    assert f"{{{','.join(get_args(Size))}}}" in capsys.readouterr().out


def test_a_locale_that_is_not_utf_8_changes_nothing_that_is_written(tmp_path: Path) -> None:
    ascii_only = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    folder = tmp_path / "Müller"
    folder.mkdir()
    (folder / "ward.yaml").write_text(SOUND, "utf-8")
    for arguments, said in ((["tasks"], "×"), (["validate", str(folder / "ward.yaml")], "Müller/ward.yaml: valid")):
        done = subprocess.run([sys.executable, "-m", "edgebench.cli", *arguments], capture_output=True, env=ascii_only)
        assert (done.returncode, done.stderr) == (0, b"")
        assert said in done.stdout.decode()
