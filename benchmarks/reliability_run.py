"""One schedule of `reliability.py`: a short run of real parts, faults at seeded times, what became of each sample."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.journalled import FOLDER_VARIABLE
from benchmarks.journals import sums
from benchmarks.unsynced import Disk, unmount_below
from edgebench.clock import NS_PER_S, now_ns, now_s, sleep_s, utc_now
from edgebench.errors import EdgebenchError
from edgebench.executors import here as here_module
from edgebench.executors.execution import Execution, RunInputs
from edgebench.executors.faults import CutLink, Injection, Kill, MendLink, Pause, Resume, StartAgain
from edgebench.executors.here import ThisMachine
from edgebench.executors.orders import Ended
from edgebench.executors.plan import plan_of
from edgebench.executors.processes import PartProcess, start_part
from edgebench.executors.wiring import Loopback
from edgebench.fabric import topics
from edgebench.fabric.records import Death, Died, Invalidated, Opened
from edgebench.fabric.spool import Spool
from edgebench.results.chunks import NEEDED
from edgebench.results.collect import COMMAND_SPOOL, WORK, collect
from edgebench.results.compute import result_of
from edgebench.results.figures import Result
from edgebench.results.run_fold import folded
from edgebench.results.rundir import create_run_dir, load_run, record_batches, write_deployment
from edgebench.seeds import rng_for
from edgebench.topology import load, resolve
from edgebench.topology.deployment import HERE
from edgebench.topology.model import Durability

Broker = Literal["mosquitto", "nats"]
Fault = Literal[
    "kill", "pause", "cut", "restart", "power-cut", "bit-flip", "truncation", "same-client-id", "packet-id-wrap"
]
Outcome = Literal["exactly_once", "declared_invalid", "wrong"]

PROMISED: dict[Fault, Durability] = {
    "kill": "process",
    "pause": "none",
    "cut": "none",
    "restart": "process",
    "power-cut": "power",
    "bit-flip": "process",
    "truncation": "process",
    "same-client-id": "process",
    "packet-id-wrap": "none",
}
"""The least level that promises to survive each fault, with Mosquitto; see `promised`."""

PATIENCE_S = 300.0
_STREAM_S = 3.0
_WRAP_SAMPLES = 66_500
"""More than MQTT has packet ids."""
_LATEST_S = 1.8
"""The last fault begins so long into the streams at most, so that they go on after it."""
_LATEST_WRAP_S = 10.0
_ABOUT_THE_HOST = ("host", "load", "disturbance", "link")
"""Reasons against a run that say nothing of its samples: schedules run side by side."""

TOPOLOGY = """\
schema: 1
name: reliability
seed: {seed}
duration_s: {duration_s}
durability: {durability}
broker: {{kind: {broker}}}
nodes:
  cloud: {{tier: cloud}}
  ward: {{tier: edge, parent: cloud}}
  bed: {{tier: device, count: {devices}, parent: ward}}
workloads:
  watch:
    task: occupancy
    source: bed
    load: {load}
    model: {{runtime: fake}}
    place: {{infer: {place}}}
    queue: {{max_samples: 1000000}}
{faults}"""

_CUT_LINKS = "faults: [{at_s: 2.9, kind: down, link: bed-0 -> ward}, {at_s: 2.9, kind: down, link: ward -> cloud}]\n"
"""So that these links are emulated; none of these is brought about."""


def promised(broker: Broker, fault: Fault) -> Durability:
    """The level at which a fault is tried: the least that promises to survive it."""
    # nats-server does not send again what was under way when a connection broke.
    return "process" if (broker, fault) == ("nats", "cut") else PROMISED[fault]


class Judged(msgspec.Struct, frozen=True):
    """What became of a schedule. accepted, missing, twice, wrongly: see `Sums`. said: what the run itself says against
    it. log: what was done to it, and when in s. state: of the code that ran it; of old ones nobody knows."""

    broker: Broker
    fault: Fault
    durability: Durability
    seed: int
    outcome: Outcome
    accepted: int
    missing: int
    twice: int
    wrongly: int
    said: list[str]
    log: list[str]
    took_s: float
    state: str = ""


def judged(folder: Path, broker: Broker, fault: Fault, seed: int, durability: Durability | None = None) -> Judged:
    """Run a schedule in a folder of its own, which is gone afterwards where all was decided once. What is there, of one
    that was broken off, goes away first."""
    level = durability or promised(broker, fault)
    began_s = now_s()
    if folder.exists():
        unmount_below(folder)
        shutil.rmtree(folder)
    schedule = _Schedule(folder, broker, fault, seed, level)
    result = schedule.run()
    said = [
        reason
        for reason, kind in zip(result.verdict.reasons, result.verdict.kinds, strict=True)
        if kind not in _ABOUT_THE_HOST
    ]
    found = sums(schedule.journals)
    # A run that claims a loss which there was not is not wrong about its samples, but no proof either.
    outcome: Outcome = "declared_invalid" if said else "exactly_once" if found.exactly_once else "wrong"
    if outcome == "exactly_once":
        shutil.rmtree(folder)
    return Judged(broker, fault, level, seed, outcome, *found, said, schedule.log, round(now_s() - began_s, 1))


class _Watched(Execution):
    """An execution whose parts may end in good order, and be started again."""

    def start(self) -> None:
        """See `Execution`."""
        self._wanted: set[tuple[str, int]] = set()
        super().start()

    def expect_end(self, part: str) -> None:
        """This life of a part is to end."""
        assert self._injector is not None
        self._wanted.add((part, self._injector.incarnation_of(part)))

    def watch_nodes(self, spool: Spool, on_streaming: Callable[[int], None], broken: Callable[[], bool]) -> None:
        """Until all that host nodes have ended, or something else has that was not to."""
        assert self._control is not None
        nodes = {part.name for part in self._plan.of_kind("cloud", "edge", "agent")}
        until_s = now_s() + PATIENCE_S
        while nodes:
            if now_s() > until_s or broken():
                spool.write(Invalidated("the run did not come to its end"))
                return
            for each in self._who_ended():
                assert isinstance(each, Ended)
                if each.status == 0 and each.part in nodes:
                    nodes.discard(each.part)
                elif (each.part, each.incarnation) not in self._wanted:
                    spool.write(Died(Death(each.part, each.status, each.at_ns, each.last_words)))
                    return
            with contextlib.suppress(EdgebenchError):
                live = self._control.state()
                if live.start_ns is not None:
                    on_streaming(live.start_ns)
                if live.phase == "aborted":
                    spool.write(Invalidated(live.reason or "the cloud called the run off"))
                    return
            sleep_s(0.05)


class _Schedule:
    """A run, and what is done to it."""

    def __init__(self, folder: Path, broker: Broker, fault: Fault, seed: int, durability: Durability) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._fault = fault
        self._rng = rng_for(seed, "reliability", broker, fault)
        self.journals = folder / "journals"
        self.journals.mkdir()
        self.log: list[str] = []
        self._failure: Exception | None = None
        self._start_ns: int | None = None
        self._thread: threading.Thread | None = None
        self._over = threading.Event()
        self._disks: dict[str, Disk] = {}
        wraps = fault == "packet-id-wrap"
        topology = folder / "topology.yaml"
        topology.write_text(
            TOPOLOGY.format(
                seed=seed,
                duration_s=_STREAM_S,
                durability=durability,
                broker=broker,
                load=f"{{kind: offline, samples: {_WRAP_SAMPLES}}}" if wraps else "{kind: fixed, rate_hz: 40}",
                devices=1 if wraps else 2,
                place="edge" if wraps else "{bed-0: edge, bed-1: cloud}",
                faults=_CUT_LINKS if fault == "cut" else "",
            ),
            encoding="utf-8",
        )
        loaded = load(topology)
        self._run_dir = create_run_dir(folder / "runs", loaded.name, utc_now())
        deployment = resolve(loaded, run_id=self._run_dir.name, executor="local")
        # The links are emulated; what was written to have them so does not happen.
        deployment = msgspec.structs.replace(deployment, faults=())
        write_deployment(self._run_dir, deployment)
        self._inputs = RunInputs(deployment, self._run_dir, folder.parent / "registry", None, None, {})
        self._plan = plan_of(deployment)
        (agent,) = self._plan.of_kind("agent")
        self._agent = agent.name

    def run(self) -> Result:
        """Carry it out, and what the run says of itself."""
        os.environ[FOLDER_VARIABLE] = str(self.journals)
        spool = Spool(self._run_dir / COMMAND_SPOOL)
        spool.write(Opened(now_ns(), {}))
        with self._disks_in_place(), _journalled_parts():
            self._machine = ThisMachine(self._run_dir, spool.write)
            self._execution = _Watched(
                self._plan, {HERE: self._machine}, self._inputs, spool, lambda _what: None, Loopback()
            )
            try:
                self._execution.start()
                self._execution.watch_nodes(spool, self._streaming, lambda: self._failure is not None)
            finally:
                with contextlib.suppress(EdgebenchError):  # what could not be started again cannot be ended either
                    self._execution.stop()
                self._over.set()
                if self._thread is not None:
                    self._thread.join()
                spool.close()
            if self._failure is not None:
                self.log.append(f"failed: {self._failure}")
            collect(self._run_dir)
        run = load_run(self._run_dir)
        fold = folded(run.deployment, run.observations, record_batches(run.path, NEEDED), run.rounds)
        return result_of(run.deployment, run.observations, fold, run.rounds)

    @contextlib.contextmanager
    def _disks_in_place(self) -> Iterator[None]:
        """Where power is cut: the folders of the parts of each machine lie on a disk that forgets."""
        if self._fault != "power-cut":
            yield
            return
        places = {"site": ("broker-ward", "ward"), "hall": ("broker-cloud",), "devices": ("bed-0",)}
        work = self._run_dir / WORK
        work.mkdir()
        with contextlib.ExitStack() as mounted:
            for machine, parts in places.items():
                disk = self._disks[machine] = Disk(self._folder / f"{machine}.disk", self._folder / machine)
                disk.mount()
                mounted.callback(disk.cut)
                for part in parts:
                    (disk.mountpoint / part).mkdir()
                    (work / part).symlink_to(disk.mountpoint / part)
            yield

    def _streaming(self, start_ns: int) -> None:
        if self._thread is None:
            self._start_ns = start_ns
            self._thread = threading.Thread(target=self._bring_about, name="faults")
            self._thread.start()

    def _bring_about(self) -> None:
        assert self._start_ns is not None
        try:
            latest_s = _LATEST_WRAP_S if self._fault == "packet-id-wrap" else _LATEST_S
            times_s = sorted(self._rng.uniform(0.3, latest_s, self._rng.integers(1, 4)).tolist())
            for at_s in times_s:
                sleep_s(max(0.0, at_s - (now_ns() - self._start_ns) / NS_PER_S))
                _FAULTS[self._fault](self)
        except Exception as failure:  # noqa: BLE001  (whatever it is, the run is broken off, and says so)
            self._failure = failure
        self._over.wait()  # a broker dies with the thread that started it

    def _note(self, what: str) -> None:
        assert self._start_ns is not None
        self.log.append(f"{(now_ns() - self._start_ns) / NS_PER_S:.3f} {what}")

    def _inject(self, injection: Injection) -> None:
        self._note(repr(injection))
        self._execution.inject(injection)

    def _wait(self, least_s: float, most_s: float) -> None:
        sleep_s(float(self._rng.uniform(least_s, most_s)))

    def _any(self, *names: str) -> str:
        return names[int(self._rng.integers(len(names)))]

    def _any_part(self) -> str:
        return self._any("broker of ward", "broker of cloud", "ward", self._agent)

    def _kill(self, *parts: str) -> None:
        for part in parts:
            self._execution.expect_end(part)
            self._inject(Kill(part, returns=True))

    def _start_again(self, *parts: str) -> None:
        for part in parts:
            self._inject(StartAgain(part))

    def kill(self) -> None:
        part = self._any_part()
        self._kill(part)
        self._wait(0.05, 0.5)
        self._start_again(part)

    def pause(self) -> None:
        part = self._any_part()
        self._inject(Pause(part))
        self._wait(0.1, 1.5)
        self._inject(Resume(part))

    def cut(self) -> None:
        link = self._any("bed-0 -> ward", "ward -> cloud")
        self._inject(CutLink(link))
        self._wait(0.05, 1.0)
        self._inject(MendLink(link))

    def restart(self) -> None:
        part = self._any("broker of ward", "broker of cloud")
        self._end(part)
        self._wait(0.02, 0.5)
        self._start_again(part)

    def _end(self, part: str) -> None:
        """In good order."""
        self._note(f"end {part}")
        self._execution.expect_end(part)
        self._machine._brokers[part].process.end()

    def power_cut(self) -> None:
        machine = self._any("site", "hall", "devices")
        parts = {
            "site": ("broker of ward", "ward"),
            "hall": ("broker of cloud",),
            "devices": (self._agent,),
        }[machine]
        self._kill(*parts)
        for part in parts:
            self._machine.named(part).process.wait(10.0)
        self._machine._tell_ended()  # with their last words, which lie on that disk
        self._note(f"{machine} loses what it had not synced")
        self._disks[machine].cut()
        self._wait(0.05, 0.3)
        self._disks[machine].mount()
        self._start_again(*parts)

    def bit_flip(self) -> None:
        self._damage(self._flip)

    def truncation(self) -> None:
        self._damage(self._truncate)

    def _damage(self, damage: Callable[[Path], None]) -> None:
        part = self._any("broker of ward", "broker of cloud")
        self._end(part)
        store = self._run_dir / WORK / f"broker-{part.rpartition(' ')[2]}"
        files = [path for path in sorted(store.rglob("*.store/**/*")) if path.is_file() and path.stat().st_size]
        if files:
            damage(files[int(self._rng.integers(len(files)))])
        self._start_again(part)

    def _flip(self, path: Path) -> None:
        content = bytearray(path.read_bytes())
        bit = int(self._rng.integers(8 * len(content)))
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        self._note(f"bit {bit} of {path.name} ({len(content)} bytes) is flipped")

    def _truncate(self, path: Path) -> None:
        size_bytes = int(self._rng.integers(path.stat().st_size))
        self._note(f"{path.name} is cut off at byte {size_bytes} of {path.stat().st_size}")
        os.truncate(path, size_bytes)

    def same_client_id(self) -> None:
        """Somebody connects by the name of a client that is there, and hears what was meant for it."""
        run = self._run_dir.name
        sessions = {
            f"{run}-bed-0": ("ward", topics.decision(run, "bed-0", "watch")),
            f"{run}-ward-site": ("ward", topics.sample(run, topics.ANY, "watch")),
            f"{run}-ward-uplink": ("cloud", topics.answer(run, "ward", "watch")),
            f"{run}-cloud": ("cloud", topics.forward(run, topics.ANY, "watch")),
        }
        name = self._any(*sessions)
        site, heard = sessions[name]
        clean = bool(self._rng.integers(2))
        port = self._machine._brokers[f"broker of {site}"].port
        for _ in range(int(self._rng.integers(1, 4))):
            self._note(f"another client is called {name}{', of a clean session' if clean else ''}")
            client = paho.Client(CallbackAPIVersion.VERSION2, name, clean_session=clean)
            client.on_connect = lambda client, *_: client.subscribe(heard, 1)
            client.connect("127.0.0.1", port)
            client.loop_start()
            self._wait(0.02, 0.2)
            client.disconnect()
            client.loop_stop()

    def packet_id_wrap(self) -> None:
        """While more messages pass than there are packet ids, whoever passes them on stands still now and then."""
        part = self._any("broker of ward", "ward")
        self._inject(Pause(part))
        self._wait(0.1, 0.6)
        self._inject(Resume(part))


_FAULTS: dict[Fault, Callable[[_Schedule], None]] = {
    "kill": _Schedule.kill,
    "pause": _Schedule.pause,
    "cut": _Schedule.cut,
    "restart": _Schedule.restart,
    "power-cut": _Schedule.power_cut,
    "bit-flip": _Schedule.bit_flip,
    "truncation": _Schedule.truncation,
    "same-client-id": _Schedule.same_client_id,
    "packet-id-wrap": _Schedule.packet_id_wrap,
}


@contextlib.contextmanager
def _journalled_parts() -> Iterator[None]:
    """Parts that this process starts keep journals."""

    def start(part: object, module: str, arguments: list[str], **how: object) -> PartProcess:
        return start_part(part, "benchmarks.journalled", [module, *arguments], **how)  # type: ignore[arg-type]

    here_module.start_part = start  # type: ignore[attr-defined]
    try:
        yield
    finally:
        here_module.start_part = start_part  # type: ignore[attr-defined]
