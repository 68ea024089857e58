"""How `federated.py` runs edgebench and what it is held against, one at a time, and watches their memory."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from edgebench.clock import NS_PER_S
from edgebench.fabric.brokers import BrokerSettings, make_broker
from edgebench.fabric.endpoints import parse_broker_url
from edgebench.fabric.guard import guarded

HERE = Path(__file__).resolve().parent
APP = HERE / "federated_app"
REFERENCE = HERE / "federated_reference.py"
PATIENCE_S = 3600.0
STOP_S = 30.0
MB = 1_000_000

PARTS = {
    "cloud": "-m cloud ",
    "relay": "-m edgebench.fabric.relay",
    "edge": "-m edge_node",
    "agent": "-m device_agent ",
    "learner": "-m device_agent.learner_child",
    "federation": "-m cloud.federator",
}
"""Processes of a run, by words of their command lines."""
SUPER_NODE = "flower-supernode"

TOPOLOGY = """\
schema: 1
name: benchmark
seed: 7
duration_s: {duration_s}
nodes:
  cloud:  {{tier: cloud}}
  edge:   {{tier: edge, count: {edges}, parent: cloud}}
  device: {{tier: device, count: {devices}, parent: edge}}
links: {links}
workloads:
  watch: {{task: "{task}", source: device, load: {{kind: fixed, rate_hz: {rate_hz}}}, qos: 0, place: {{infer: {place}}},
  {model}}}
federated:
  - {{workload: watch, deadline_s: 600, {federated}}}
{more}
"""
FAKE = "model: {runtime: fake}"
LEARNED = "train: {epochs: 1, examples: 200}"


class Watch(threading.Thread):
    """Looks at the memory of the processes below one, time and again.

    most_pss, most_rss: of the processes with `words` in their command lines and all that they started, together, MB.
    most_alone: of the same on a machine of their own: what is private to each and, once, what most is shared by one.
    rss, peak_rss: of each of `PARTS`, the most that was seen, and the most that it ever had by the kernel's count, MB.
    """

    def __init__(self, pid: int, words: str, every_s: float) -> None:
        super().__init__(name="watch", daemon=True)
        self.most_pss = self.most_rss = self.most_alone = 0.0
        self.rss: dict[str, float] = {}
        self.peak_rss: dict[str, float] = {}
        self._pid = pid
        self._words = words
        self._every_s = every_s
        self._over = threading.Event()

    def run(self) -> None:
        """Until `end`."""
        while not self._over.wait(self._every_s):
            self._look()

    def end(self) -> None:
        """Look no more."""
        self._over.set()
        self.join()

    def _look(self) -> None:
        together: dict[int, dict[str, float]] = {}
        for process in _below(self._pid):  # parents come before their children
            try:
                line = " ".join(process.cmdline()) + " "
                if self._words in line or process.ppid() in together:
                    together[process.pid] = _fields(process.pid, "smaps_rollup")
                for part in [part for part, words in PARTS.items() if words in line]:
                    status = _fields(process.pid, "status")
                    self.rss[part] = max(self.rss.get(part, 0.0), status["VmRSS"])
                    self.peak_rss[part] = max(self.peak_rss.get(part, 0.0), status["VmHWM"])
            except (psutil.Error, OSError, KeyError):  # it has ended meanwhile
                continue
        all_of_them = [each for each in together.values() if each]
        shared = [each["Shared_Clean"] + each["Shared_Dirty"] for each in all_of_them]
        rss = sum(each["Rss"] for each in all_of_them)
        self.most_rss = max(self.most_rss, rss)
        self.most_pss = max(self.most_pss, sum(each["Pss"] for each in all_of_them))
        self.most_alone = max(self.most_alone, rss - sum(shared) + max(shared, default=0.0))


def _below(pid: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.Error:
        return []


def _fields(pid: int, name: str) -> dict[str, float]:
    """The fields in kB of a file below /proc, in MB."""
    lines = (line.split() for line in Path(f"/proc/{pid}/{name}").read_text().splitlines())
    return {words[0][:-1]: int(words[1]) * 1024 / MB for words in lines if len(words) == 3 and words[2] == "kB"}


class Bench:
    """Runs the system and the references, one at a time; everything is written below `directory`.

    result: all of result.json of the last run.
    """

    def __init__(self, directory: Path, tree: Path = HERE.parent) -> None:
        """tree: of the system that is run."""
        self.result: dict[str, Any] = {}
        self._directory = directory
        self._tree = tree
        self._runs = 0

    def system(
        self,
        federated: str,
        *,
        devices: int,
        duration_s: float,
        edges: int = 1,
        task: str = "icu-death",
        model: str = LEARNED,
        links: str = "[]",
        rate_hz: float = 1.0,
        place: str = "edge",
        more: str = "",
        every_s: float = 0.5,
    ) -> tuple[dict[str, Any], Watch]:
        """The `federated` part of result.json of a run, and the memory of its processes (of the agents' together).

        more: lines of the topology.
        """
        directory = self._new()
        file = directory / "topology.yaml"
        file.write_text(
            TOPOLOGY.format(
                duration_s=duration_s,
                edges=edges,
                devices=devices,
                links=links,
                task=task,
                rate_hz=rate_hz,
                place=place,
                model=model,
                federated=federated,
                more=more,
            )
        )
        command = [sys.executable, "-m", "edgebench.cli", "run", str(file), "--out", str(directory / "runs")]
        command += ["--registry", str(directory / "registry"), "--json"]
        output, watch = self._watched(command, PARTS["agent"], every_s)
        shutil.rmtree(directory)  # a run for a thousand clients takes some GB
        self.result = json.loads(output)
        figures: dict[str, Any] = self.result["federated"]["watch"]
        failures = sum(each["failures"] for each in figures["rounds"])
        if failures or self.result["deaths"] or not figures["rounds"]:
            raise SystemExit(f"a run was not as it should be: {'; '.join(self.result['verdict']['reasons'])}")
        return figures, watch

    def app_on_system(self, values: int, rounds: int, *, duration_s: float, clients: int, **more: Any) -> AppRun:
        """The app on the devices of one edge."""
        stamps = self._new() / "stamps"
        config = f"{{clients: {clients}, values: {values}, rounds: {rounds}, stamps: {stamps}}}"
        federated = f"app: {APP}, config: {config}"
        figures, watch = self.system(federated, devices=clients, duration_s=duration_s, model=FAKE, **more)
        return AppRun(_rounds_s(stamps), watch, figures)

    def app_alone(self, role: str, values: int, rounds: int, *, clients: int) -> AppRun:
        """The app in one process, or on Flower's deployment."""
        directory = self._new()
        stamps = directory / "stamps"
        logs = [str(directory / "logs")] if role == "superlink" else []
        command = [sys.executable, str(REFERENCE), role, str(stamps), *logs, *map(str, (clients, values, rounds))]
        _, watch = self._watched(command, SUPER_NODE, 0.5)
        return AppRun(_rounds_s(stamps), watch, {})

    def bytes_alone(self, size_bytes: int, rounds: int, *, clients: int) -> float:
        """The median time of a round's bytes."""
        directory = self._new()
        with ExitStack() as stack:
            cloud, site = (
                parse_broker_url(stack.enter_context(make_broker(BrokerSettings(name, directory / name))).url)
                for name in ("cloud", "site")
            )
            above, below = (cloud.host, str(cloud.port)), (site.host, str(site.port))
            stack.enter_context(_ready("relay", *above, *below))
            stack.enter_context(_ready("answer", *below, str(clients), str(size_bytes)))
            serve = ["serve", *above, str(clients), str(size_bytes), str(rounds)]
            output, _ = self._watched([sys.executable, str(REFERENCE), *serve], SUPER_NODE, 1.0)
        return statistics.median(json.loads(output)["round_s"][1:])

    def _new(self) -> Path:
        self._runs += 1
        directory = self._directory / str(self._runs)
        directory.mkdir()
        return directory

    def _watched(self, command: Sequence[str], words: str, every_s: float) -> tuple[str, Watch]:
        """What a command prints, and the memory of what it starts (see `Watch`)."""
        log = self._directory / f"{self._runs}.log"
        path = os.pathsep.join(filter(None, [str(HERE), str(self._tree), os.environ.get("PYTHONPATH")]))
        with (
            log.open("wb") as errors,
            subprocess.Popen(
                guarded(list(command)),
                cwd=self._tree,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "PYTHONPATH": path},
            ) as process,
        ):
            watch = Watch(process.pid, words, every_s)
            watch.start()
            try:
                output, _ = process.communicate(timeout=PATIENCE_S)
            except BaseException:
                process.terminate()
                process.wait(STOP_S)
                raise
            finally:
                watch.end()
        if not output and process.returncode != 0:
            raise SystemExit(f"{' '.join(command)} failed: {log.read_text(errors='replace')[-2000:]}")
        return output.decode(), watch


@dataclass(frozen=True)
class AppRun:
    """A run of the app. rounds_s: seconds of each round but the first. figures: of result.json, where there is one."""

    rounds_s: list[float]
    watch: Watch
    figures: dict[str, Any]

    @property
    def round_s(self) -> float:
        """The median round."""
        return statistics.median(self.rounds_s)


@contextmanager
def _ready(*arguments: str) -> Iterator[None]:
    """One of the processes of the bytes alone, for as long as this lasts."""
    command = guarded([sys.executable, str(REFERENCE), *arguments])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None or process.stdout.readline() != "ready\n":
                raise SystemExit(f"{arguments[0]} did not start")
            yield
        finally:
            process.kill()


def _rounds_s(stamps: Path) -> list[float]:
    """Of the second round and those after it; the first line is from before the first round."""
    at_ns = [int(line) for line in stamps.read_text().splitlines()]
    return [(after - before) / NS_PER_S for before, after in itertools.pairwise(at_ns[1:])]
