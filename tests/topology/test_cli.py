from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import edgebench
from edgebench.cli import main
from tests.topology.sound import SOUND


def test_validate_says_what_a_topology_describes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(SOUND)

    assert main(["validate", str(file), "--set", "duration_s=4"]) == 0

    assert capsys.readouterr().out == (
        f"{file}: valid, 4 s on the local executor, seed 0\n"
        "  nodes      1 cloud, 2 edge, 3 device\n"
        "  links      5, 5 of them shaped\n"
        "  workload   risk: icu-death, 3 devices, decided on 2 edge nodes\n"
    )


def test_validate_json_is_the_deployment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(SOUND)

    assert main(["validate", str(file), "--json"]) == 0

    deployment = json.loads(capsys.readouterr().out)
    assert deployment["workloads"]["risk"]["deciders"]["bed-2"] == "ward-0"
    assert deployment["links"]["bed-2 -> ward-0"]["latency_ms"] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "edgebench: the following arguments are required: COMMAND (edgebench -h tells what there is)"),
        (["validate"], "edgebench validate: the following arguments are required: TOPOLOGY (edgebench validate -h"),
        (["validat"], "edgebench: COMMAND: invalid choice: 'validat' (choose from"),
        (["validate", "x.yaml", "--jso"], "edgebench: unrecognized arguments: --jso (edgebench -h"),
        (["run", "x.yaml", "--seed", "1.5"], "edgebench run: --seed: expected a whole number, got '1.5'"),
        (["run", "x.yaml", "--duration-s", "nan"], "edgebench run: --duration-s: expected a number, got 'nan'"),
        (["place", "x.yaml", "--limit-s", "soon"], "edgebench place: --limit-s: expected a number, got 'soon'"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_ends_with_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(said)
    assert err.count("\n") == 1


def test_help_and_version_end_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"edgebench {edgebench.__version__}\n"
    assert main(["validate", "--help"]) == 0
    assert "--set PATH=VALUE" in capsys.readouterr().out


def test_validate_brings_in_nothing_that_only_a_lab_has(tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(SOUND)
    code = (
        "import sys; from edgebench.cli import main; status = main(sys.argv[1:]);"
        "lab = {'aiohttp', 'duckdb', 'jinja2', 'keras', 'plotly', 'pyarrow', 'rich', 'scipy', 'sklearn', 'tensorflow'};"
        "sys.exit(f'imported {lab & set(sys.modules)}' if lab & set(sys.modules) else status)"
    )

    run = subprocess.run(
        [sys.executable, "-c", code, "validate", str(file)], capture_output=True, text=True, timeout=60
    )

    assert (run.returncode, run.stderr) == (0, "")
