"""Running whole topologies as a user would: through the command line, in a process of its own."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from edgebench.clock import now_s, sleep_s
from edgebench.fabric.records import SampleRows
from edgebench.fabric.spool import read_spool

RUN_PATIENCE_S = 600.0
CLOSING_PATIENCE_S = 60.0
"""What closes a run whose command is gone waits 15 s for its nodes, and then has a report to write."""

SMALL = """\
schema: 1
name: small
seed: 3
duration_s: 4
nodes:
  cloud: {tier: cloud}
  ward:  {tier: edge, count: 2, parent: cloud}
  bed:   {tier: device, count: 4, parent: ward}
workloads:
  watch: {task: icu-death, source: bed, load: {kind: fixed, rate_hz: 10}, model: {runtime: fake}}
"""
"""Four devices on two wards for four seconds, 160 samples, without training: what most tests need."""


def command(topology: Path, out: Path, *more: str) -> list[str]:
    """The command that runs a topology."""
    return [sys.executable, "-m", "edgebench.cli", "run", str(topology), "--out", str(out), *more]


def run(tmp_path: Path, text: str, *more: str) -> tuple[int, dict[str, Any], Path]:
    """Run a topology to its end: exit status, which is the verdict's, result.json, run directory."""
    topology = tmp_path / "topology.yaml"
    topology.write_text(text)
    done = subprocess.run(
        command(topology, tmp_path / "runs", "--json", *more), capture_output=True, text=True, timeout=RUN_PATIENCE_S
    )
    assert done.stdout, done.stderr
    result = json.loads(done.stdout)
    assert (done.returncode == 0) is result["verdict"]["valid"]
    return done.returncode, result, run_dir_of(tmp_path / "runs")


OF_THE_MACHINE = {"load", "host", "emulation", "disturbance", "link"}
"""Kinds of reasons that a busy machine alone can give."""


def faults_of(result: dict[str, Any]) -> list[str]:
    """The verdict's reasons that are not the machine's, since a test cannot have the machine to itself."""
    verdict = result["verdict"]
    return [why for why, kind in zip(verdict["reasons"], verdict["kinds"], strict=True) if kind not in OF_THE_MACHINE]


def run_dir_of(out: Path) -> Path:
    """The newest run directory."""
    return max(path for path in out.iterdir() if (path / "deployment.json").exists())


class Streaming:
    """A run in mid-stream. `parts` are all the processes below the command."""

    def __init__(self, process: subprocess.Popen[str], out: Path) -> None:
        self.process = process
        self.run_dir = run_dir_of(out)
        self.parts = psutil.Process(process.pid).children(recursive=True)

    def part(self, *words: str) -> psutil.Process:
        """The one process whose command line has all these words (the first, where several have)."""
        for part in self.parts:
            with contextlib.suppress(psutil.NoSuchProcess):  # what was done with may have ended since
                line = " ".join(part.cmdline())
                if all(word in line for word in words):
                    return part
        raise AssertionError(f"no process of the run has {words} in its command line")

    def end(self) -> tuple[int, dict[str, Any]]:
        """Wait for the end: exit status, which is the verdict's, and result.json."""
        self.process.communicate(timeout=RUN_PATIENCE_S)
        result = json.loads((self.run_dir / "result.json").read_text())
        assert (self.process.returncode == 0) is result["verdict"]["valid"]
        return self.process.returncode, result

    def left(self) -> list[str]:
        """Command lines of the processes that outlived the run, and what closes it where the command could not."""
        _, alive = psutil.wait_procs(self.parts, timeout=CLOSING_PATIENCE_S)
        return lines_of(alive)


def lines_of(processes: Iterable[psutil.Process]) -> list[str]:
    """Command lines of those that have not ended."""
    lines = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                lines.append(" ".join(process.cmdline()))
    return lines


@contextmanager
def streaming(tmp_path: Path, text: str, *more: str, decided: int = 40, device: str = "bed-*") -> Iterator[Streaming]:
    """A run of whose devices so many decisions at least are recorded; it is ended at the end whatever happens.

    device: the first of an agent whose records count, or a pattern.
    """
    topology = tmp_path / "topology.yaml"
    topology.write_text(text)
    out = tmp_path / "runs"
    process = subprocess.Popen(
        command(topology, out, *more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        _wait_for_rows(process, out, decided, device)
        yield Streaming(process, out)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.communicate(timeout=30.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
        assert process.stdout is not None
        process.stdout.close()


def _wait_for_rows(process: subprocess.Popen[str], out: Path, decided: int, device: str) -> None:
    until_s = now_s() + RUN_PATIENCE_S
    while now_s() < until_s:
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        spools = out.glob(f"*/work/{device}/records.spool") if out.exists() else iter(())
        rows = sum(len(entry.rows) for path in spools for entry in read_spool(path) if isinstance(entry, SampleRows))
        if rows >= decided:
            return
        sleep_s(0.1)
    raise AssertionError("the streams did not begin")
