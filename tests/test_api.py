"""A run is a function: what `import edgebench` offers, from a thread of a program as from a command."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import psutil
import pytest

import edgebench
from edgebench.cli import main
from edgebench.clock import sleep_s
from edgebench.errors import TopologyError
from edgebench.results.comparison.figures import Comparison
from edgebench.results.rundir import load_deployment, load_run
from tests.conftest import ROOT
from tests.system.running import SMALL, lines_of

TRACED = SMALL.replace("{kind: fixed, rate_hz: 10}", "{kind: trace, file: due.txt}")


class Plug:
    """A meter of one's own."""

    source = "a plug"

    def joules(self) -> float:
        return 12.5


@pytest.fixture(scope="module")
def threads_before() -> set[threading.Thread]:
    """Of this process, which is that of other tests, too."""
    return set(threading.enumerate())


@pytest.fixture(scope="module")
def ran(threads_before: set[threading.Thread], tmp_path_factory: pytest.TempPathFactory) -> edgebench.Run:
    """A run with overrides and a trace, by a thread; what it was given is gone afterwards."""
    folder = tmp_path_factory.mktemp("given")
    file, trace = folder / "small.yaml", folder / "due.txt"
    file.write_text(TRACED)
    trace.write_text("".join(f"{0.1 * number:.1f}\n" for number in range(20)))
    runs: list[edgebench.Run] = []

    def work() -> None:
        topology = edgebench.load(file, ["duration_s=2", "workloads.watch.deadline_ms=900"])
        runs.append(edgebench.run(topology, out=folder / "runs", meter=f"{__name__}:Plug"))

    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    thread = threading.Thread(target=work, name="a cell of a notebook")
    thread.start()
    thread.join()
    assert {each: signal.getsignal(each) for each in handlers} == handlers
    file.unlink()
    trace.unlink()
    return runs[0]


def test_a_run_by_a_thread_leaves_neither_threads_nor_processes_behind(
    threads_before: set[threading.Thread], ran: edgebench.Run
) -> None:
    names = {thread.name for thread in set(threading.enumerate()) - threads_before}
    assert {name for name in names if not name.startswith(("pytest_timeout", "Dummy", "asyncio"))} == set()
    commands = lines_of(psutil.Process().children(recursive=True))
    ours = ("cloud", "edge_node", "device_agent", "edgebench", "mosquitto", "nats-server")
    assert [command for command in commands if any(each in command for each in ours)] == []


def test_a_program_that_is_told_to_end_is_told_again_when_its_run_is_whole(tmp_path: Path) -> None:
    told: list[tuple[int, list[Path]]] = []

    def end(number: int, _frame: object) -> None:
        told.append((number, list(tmp_path.glob("*/report.html"))))

    def tell() -> None:
        while not list(tmp_path.glob("*/work/cloud")):
            sleep_s(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    file = tmp_path / "small.yaml"
    file.write_text(SMALL)
    before = signal.signal(signal.SIGTERM, end)
    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        run = edgebench.run(file, out=tmp_path)
        assert signal.getsignal(signal.SIGTERM) is end
    finally:
        signal.signal(signal.SIGTERM, before)
    teller.join()
    assert told == [(signal.SIGTERM, [run.report])]
    assert "interrupted by SIGTERM" in run.verdict.reasons


def test_a_run_gives_typed_figures_records_and_a_report(ran: edgebench.Run) -> None:
    watch = ran.figures.workloads["watch"]
    assert (watch.scheduled, watch.decided, watch.lost) == (80, 80, 0)
    assert ran.verdict is ran.figures.verdict
    assert ran.records.num_rows == 80
    assert set(ran.records.column("node").to_pylist()) == {f"bed-{number}" for number in range(4)}
    assert ran.report.read_text().lstrip().startswith("<!doctype html>")


def test_a_run_directory_gives_the_same_run(ran: edgebench.Run) -> None:
    again = edgebench.load_run(ran.folder)
    assert again.figures == ran.figures
    assert again.records.equals(ran.records)
    assert edgebench.load_run(ran.folder, rebuild=True).figures == ran.figures


def test_a_run_directory_stands_alone_as_a_topology_that_gives_the_same_deployment(ran: edgebench.Run) -> None:
    was = load_deployment(ran.folder)
    for given in (ran.folder, ran.folder / "topology.yaml"):
        topology = edgebench.load(given)
        assert (topology.topology.duration_s, topology.topology.workloads["watch"].deadline_ms) == (2, 900)
        found = edgebench.validate(topology)
        assert found.workloads["watch"].load.file == str(ran.folder / "traces" / "watch.txt")  # type: ignore[union-attr]
        assert (found.nodes, found.links, found.duration_s) == (was.nodes, was.links, was.duration_s)
    assert edgebench.load(ran.folder, ["duration_s=3"]).topology.duration_s == 3


def test_the_report_command_prints_result_json_and_its_status_is_the_verdict(
    ran: edgebench.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    status = 0 if ran.verdict.valid else 1
    assert main(["report", str(ran.folder), "--json"]) == status
    assert capsys.readouterr().out == (ran.folder / "result.json").read_text()
    assert main(["report", str(ran.folder)]) == status
    assert capsys.readouterr().out.splitlines()[-1] == str(ran.report)


@pytest.fixture(scope="module")
def replayed(ran: edgebench.Run, tmp_path_factory: pytest.TempPathFactory) -> edgebench.Replayed:
    """The same again, from its run directory: what it was given is not there any more."""
    return edgebench.replay(ran.folder, out=tmp_path_factory.mktemp("again"))


def test_a_run_is_run_again_from_its_run_directory_alone_and_compared(
    ran: edgebench.Run, replayed: edgebench.Replayed
) -> None:
    assert replayed.run.folder != ran.folder
    assert replayed.run.figures.workloads["watch"].scheduled == 80

    def due_ns(run: edgebench.Run) -> list[tuple[str, int]]:
        start_ns = load_run(run.folder).observations.started_ns or 0
        rows = run.records.select(["node", "scheduled_ns"]).to_pylist()
        return sorted((row["node"], row["scheduled_ns"] - start_ns) for row in rows)

    assert due_ns(replayed.run) == due_ns(ran)
    for each in (ran, replayed.run):
        assert load_run(each.folder).observations.meters["here"].source == "a plug"
    comparison = replayed.comparison
    assert [run.run_id for side in comparison.sides for run in side.runs] == [ran.folder.name, replayed.run.folder.name]
    assert (comparison.topology, comparison.versions, comparison.host) == ([], [], [])


def test_what_a_run_needed_and_is_nowhere_any_more_is_named_before_anything_runs(
    ran: edgebench.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "runs" / "copy"
    shutil.copytree(ran.folder, copy)
    overrides = json.loads((copy / "overrides.json").read_text())
    digest = "sha256:" + "0" * 64
    more = [f"data={tmp_path}/gone", f"workloads.watch.model.source={digest}"]
    (copy / "overrides.json").write_text(json.dumps([*overrides, *more]))
    options = json.loads((copy / "options.json").read_text())
    told = {"registry": f"{tmp_path}/registry", "resume": f"{tmp_path}/earlier", "sensors": ["bed=camera:/dev/video0"]}
    (copy / "options.json").write_text(json.dumps({**options, **told}))
    assert main(["replay", str(copy)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"{copy}: its data were in {tmp_path}/gone, which is not there (put them back)",
        f"{copy}: the model of 'watch' was in the registry {tmp_path}/registry, which is not there (put it back)",
        f"{copy}: it went on from {tmp_path}/earlier, which is not there (put it back)",
        f"{copy}: it read what was live, by bed=camera:/dev/video0 (edgebench run it with --sensor)",
    ]
    assert list((tmp_path / "runs").iterdir()) == [copy]


def test_two_runs_are_compared_by_the_command_and_by_a_program_alike(
    ran: edgebench.Run, replayed: edgebench.Replayed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [ran.folder, replayed.run.folder]
    found = edgebench.compare(folders)
    assert found == replayed.comparison
    assert main(["compare", *map(str, folders), "--json", "--out", str(tmp_path / "c.json")]) == 0
    assert msgspec.json.decode(capsys.readouterr().out, type=Comparison) == found
    assert msgspec.json.decode((tmp_path / "c.json").read_bytes(), type=Comparison) == found
    figures = {each.figure: each for each in found.against["B"]}
    uplink = figures["workloads.watch.hops_ms.uplink.mean"]
    assert uplink.by == "time blocks"
    assert uplink.interval is not None
    assert figures["processes.cloud.rss_mb"].shown == "no interval"


def test_the_compare_command_prints_and_writes_the_same_tables(
    ran: edgebench.Run, replayed: edgebench.Replayed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(ran.folder), str(replayed.run.folder), "--out", str(tmp_path / "c.txt")]) == 0
    printed, kept = capsys.readouterr().out, (tmp_path / "c.txt").read_text()
    for text in (printed, kept):
        assert "topology: the same" in text
        assert "no difference shown" in text
    assert main(["compare", str(ran.folder), str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"{tmp_path}: not a run directory, it has no deployment.json\n"


def test_a_directory_that_is_no_run_is_refused_and_left_alone(tmp_path: Path) -> None:
    for rebuild in (False, True):
        with pytest.raises(edgebench.EdgebenchError, match="not a run directory"):
            edgebench.load_run(tmp_path, rebuild=rebuild)
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_its_result_is_told_how_to_get_it(ran: edgebench.Run, tmp_path: Path) -> None:
    (tmp_path / "deployment.json").write_bytes((ran.folder / "deployment.json").read_bytes())
    with pytest.raises(edgebench.EdgebenchError, match=r"has no result\.json \(edgebench report .* writes it\)"):
        edgebench.load_run(tmp_path)
    with pytest.raises(edgebench.EdgebenchError, match=r"cut off before it wrote records\.parquet"):
        _ = edgebench.Run(tmp_path, ran.figures).records


def test_what_there_is_to_begin_with_is_listed_and_copied(tmp_path: Path) -> None:
    shown = edgebench.list_topologies()
    assert shown["icu-hospital"].startswith("Two hundred patients on four wards")
    copy = edgebench.init("icu-hospital", out=tmp_path)
    assert copy == tmp_path / "icu-hospital.yaml"
    assert edgebench.load(copy).topology == edgebench.load("icu-hospital").topology
    with pytest.raises(edgebench.EdgebenchError, match="is there already"):
        edgebench.init("icu-hospital", out=copy)
    assert {"icu-death", "lane-detection"} <= {task.name for task in edgebench.list_tasks()}
    with pytest.raises(edgebench.EdgebenchError, match="no such folder"):
        edgebench.list_tasks(data=tmp_path / "nowhere")
    assert "workloads" in edgebench.schema()["$defs"]["Topology"]["properties"]


def test_a_users_mistake_is_an_error_of_one_line_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(SMALL)
    with pytest.raises(TopologyError) as raised:
        edgebench.run(edgebench.load(file, ["workloads.watch.task=icu-deat"]), out=tmp_path / "runs")
    assert str(raised.value) == (f"{file}: $.workloads.watch.task: no task 'icu-deat' (did you mean 'icu-death'?)")
    assert not (tmp_path / "runs").exists()


def test_importing_edgebench_brings_in_nothing_else() -> None:
    """Every node of a run does, on the smallest board too."""
    code = (
        "import sys; before = set(sys.modules); import edgebench;"
        "own = {name for name in sys.modules if name.startswith('edgebench.')};"
        "assert own == {'edgebench.triton_first'}, own; assert 'load' in dir(edgebench); edgebench.load('icu-ward');"
        "heavy = {'aiohttp', 'keras', 'pyarrow', 'rich', 'scipy', 'tensorflow'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    with pytest.raises(AttributeError, match="has no attribute 'runn'"):
        _ = edgebench.runn  # type: ignore[attr-defined]


def test_type_checkers_are_told_what_the_package_offers() -> None:
    told = (Path(edgebench.__file__).with_name("__init__.pyi")).read_text()
    assert {name for name in edgebench.__all__ if f" as {name}\n" not in told} == set()
    for package in ("edgebench", "cloud", "edge_node", "device_agent"):
        assert (ROOT / package / "py.typed").exists()
