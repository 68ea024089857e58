"""What every node process does, whatever its tier: heartbeats, records, usage, models, and an orderly end."""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import os
import queue
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgebench.clock import now_ns
from edgebench.core.samples import RejectedError
from edgebench.core.tallies import Tally, add_tallies
from edgebench.errors import EXIT_USER_ERROR, EdgebenchError, FabricError, ModelError
from edgebench.fabric import wire
from edgebench.fabric.cloud_clock import CloudClock
from edgebench.fabric.control import LONG_SILENCE_S, ControlClient, HttpClient, RefusedError
from edgebench.fabric.descriptors import allow_descriptors
from edgebench.fabric.digests import digest_of
from edgebench.fabric.hiccups import HiccupMeter
from edgebench.fabric.logs import log_to_stderr
from edgebench.fabric.patience import Patience
from edgebench.fabric.reactor import Reactor
from edgebench.fabric.records import (
    Closed,
    Entry,
    Hiccuped,
    Refused,
    Released,
    Swap,
    Swapped,
    TallySnapshot,
    Usage,
    Used,
)
from edgebench.fabric.refusals import Refusals
from edgebench.fabric.slices import Heartbeat, Refusal, RunState, Slice
from edgebench.fabric.spool import Spool, encoded
from edgebench.fabric.transfers import fetch, hand_in, quoted
from edgebench.inference.runtime import BUILT_IN, Runtime, open_runtime
from edgebench.inference.spec import Manifest
from edgebench.memory import give_back, resident_bytes
from edgebench.seeds import seed_for

if TYPE_CHECKING:
    from edgebench.core.emulation import Machine

_log = logging.getLogger(__name__)
_HEARTBEAT_S = 0.5
_HEARTBEAT_AGAIN_S = 0.02
"""Where the answer has waited."""
_FLUSH_S = 0.5
_CLOUD_PATIENCE_S = 60.0
_UPLOAD_PATIENCE_S = 30.0
_encode = msgspec.msgpack.Encoder().encode

STORE = "store"
"""Where, in its folder, a node keeps what is to survive it: a disk of its own, where a fault is to fill that."""

EXIT_BROKEN_OFF = 3
"""Exit status of a node process that had to stop before the end of its run; it kept what it had recorded."""

ModelReady = Callable[[str, Runtime, Manifest], None]


def _nothing() -> None:
    """Nobody wants to know."""


def _fail(error: FabricError) -> None:
    """What a thread has met ends the process where all else does."""
    raise error


class RunBrokenOffError(Exception):
    """The run ended before its time."""


class NodeProcess:
    """The frame around one process that hosts nodes of one tier.

    The owner fills `tallies`, sets `ready` and `drained`, and is told of phases in the reactor's thread, with all times
    on this process's clock.
    """

    def __init__(
        self,
        plan: Slice,
        control: ControlClient,
        token: str,
        work_dir: Path,
        *,
        incarnation: int = 0,
        cloud_patience_s: float = _CLOUD_PATIENCE_S,
        listening: socket.socket | None = None,
    ) -> None:
        """control: used by the heartbeat thread alone from `start` on. incarnation: how often these nodes have been
        started before in this run, with the same `work_dir`; what they recorded there goes on. cloud_patience_s:
        without an answer for so long, the run is broken off. listening: where its site reaches an edge that serves
        files."""
        self.reactor = Reactor()
        self.plan = plan
        self.nodes = list(plan.nodes)
        self.incarnation = incarnation
        self.listening = listening
        self.tallies: dict[str, dict[str, Tally]] = {node: {} for node in self.nodes}
        self.drained = False
        self.waits: Callable[[], str] = str
        """Says what this process waits for, where that is unusual."""
        self.still_comes: Callable[[], bool] = bool
        """Whether what it waits for is on its way, however long that takes."""
        self._ready = False
        self._clock = CloudClock(shared=all(plan.endpoints[node].shares_clock for node in self.nodes))
        self._beat_now = threading.Event()
        self._control = control
        self._cloud_patience_s = cloud_patience_s
        self.token = token
        self.work_dir = work_dir
        self.store_dir = work_dir / STORE
        """For what is kept until it is decided, or answered."""
        self.store_dir.mkdir(exist_ok=True)
        self._spool = Spool(work_dir / "records.spool", power=plan.durability == "power")
        self._entries: list[Entry] = []
        self._entries_lock = threading.Lock()
        self._announced: queue.SimpleQueue[tuple[str, str, bytes] | None] = queue.SimpleQueue()
        self._on_model: ModelReady | None = None
        self._refused: tuple[Refusal, ...] = ()
        self._fetched_ns: dict[tuple[str, str], int] = {}
        self._loading = False
        self._in_use: dict[str, str] = {}
        self._before_flush: Callable[[], None] = _nothing
        self._before_write: Callable[[], None] = _nothing
        self._after_flush: Callable[[], None] = _nothing
        self._counted: dict[str, bytes] = {}
        """Node -> its counts as they were written down last."""
        self._to_write: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._writing = threading.Thread(target=self._write_down, name="records", daemon=True)
        self._ended = threading.Event()
        self._finished = False
        self._hiccups = HiccupMeter()
        self.refusals = Refusals(_log)
        self._machines: dict[str, Machine] = {}

    def run(
        self,
        *,
        on_phase: Callable[[RunState], None],
        on_abort: Callable[[], None],
        before_flush: Callable[[], None],
        on_model: ModelReady,
        before_write: Callable[[], None] = _nothing,
        after_flush: Callable[[], None] = _nothing,
    ) -> None:
        """Serve until `finish` or an abort.

        Raises RunBrokenOffError after an abort. on_phase: at each change. on_abort: when the run breaks off (a signal,
        the parent's end, the cloud's word): write down what is known. before_flush: hand finished rows to `write`.
        before_write (in the thread that writes): what has to be on the disk before the counts are. after_flush: what
        was handed over is in the file. on_model (in the fetcher's thread): a model that was announced, verified and
        warm.
        """
        self._before_flush = before_flush
        self._before_write = before_write
        self._after_flush = after_flush
        self._on_model = on_model
        self._on_abort = on_abort
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)
        self._hiccups.start()
        threading.Thread(target=self._beat, args=(on_phase,), name="heartbeat", daemon=True).start()
        threading.Thread(target=self._fetch, name="models", daemon=True).start()
        self._writing.start()
        self.reactor.call_later(_FLUSH_S, self._flush_again)
        try:
            self.reactor.run()
        finally:
            self._hiccups.end()
        self._flush_last()
        self._spool.close()
        if not self._finished:
            raise RunBrokenOffError

    @property
    def spool_path(self) -> Path:
        """What earlier lives have recorded, and this one does."""
        return self._spool.path

    @property
    def ready(self) -> bool:
        """Whether the streams may begin, as far as this process goes."""
        return self._ready

    @ready.setter
    def ready(self, ready: bool) -> None:
        if ready and not self._ready:
            self._beat_now.set()  # everybody waits for whoever is ready last
        self._ready = ready

    def tally(self, node: str, workload: str) -> Tally:
        """The counts of a workload at a node; the same object each time."""
        return self.tallies[node].setdefault(workload, Tally())

    def emulated(self, node: str, *, has_broker: bool) -> Machine | None:
        """The machine that a node is emulated to run on, whose releases are written down; None where none is; the same
        each time. has_broker: its own broker is there, too."""
        profile = self.plan.profiles.get(self.plan.nodes[node].profile)
        if profile is None or node in self._machines:
            return self._machines.get(node)
        # Another life draws anew, or each would meet what the first one met.
        seed = self.plan.seed if not self.incarnation else seed_for(self.plan.seed, "life", self.incarnation)
        from edgebench.core.emulation import Machine  # where nothing is emulated its memory is not needed

        machine = Machine(node, profile, self.reactor, seed, has_broker=has_broker)
        self._machines[node] = machine
        return machine

    def write(self, entry: Entry) -> None:
        """Record something; from any thread. It reaches the file with the next flush."""
        with self._entries_lock:
            self._entries.append(entry)

    def announced(self, node: str, workload: str, manifest: bytes) -> None:
        """A manifest came in: fetch the model, warm it up, hand it to `on_model`."""
        self._announced.put((node, workload, manifest))

    def swapped(self, node: str, workload: str, manifest: Manifest) -> None:
        """A server began to decide with this model."""
        fetched_ns = self._fetched_ns.get((workload, manifest.digest), now_ns())
        self._in_use[workload] = manifest.digest
        self.write(Swapped(Swap(node, workload, manifest.digest, fetched_ns, now_ns())))

    def finish(self) -> None:
        """Everything is drained: close the records, upload them, and stop. From the reactor's thread."""
        self._end_beating()
        self._finished = True
        self._sample_usage()
        self.write(Closed(self.nodes, now_ns(), versions()))
        self._flush_last()
        try:
            with HttpClient(self._control.url, self.token, patience_s=_UPLOAD_PATIENCE_S) as client:
                hand_in(client, f"records/{quoted(self.nodes[0])}", self._spool.path)
        except FabricError as error:
            _log.error("the records stay in %s: %s", self._spool.path, error)
        self.reactor.stop()

    def _signalled(self, number: int, _frame: object) -> None:
        self.reactor.call_from_signal(partial(self._abort, f"asked to by {signal.Signals(number).name}"))

    def _abort(self, why: str) -> None:
        if not self._ended.is_set():
            self._end_beating()
            _log.warning("stopping before the end of the run: %s", why)
            self._on_abort()
            self.reactor.stop()

    def _beat(self, on_phase: Callable[[RunState], None]) -> None:
        last = RunState("preparing")
        patience = Patience(self._cloud_patience_s)
        told = False
        while not self._ended.is_set():
            self._beat_now.clear()
            pause_s = _HEARTBEAT_S
            try:
                state = self._compared_beat()
                if state.phase == "preparing" and self._is_ready:
                    pause_s = _HEARTBEAT_AGAIN_S
                patience.renew()
                told = False
            except RefusedError as error:
                state = RunState("aborted", reason=str(error))
            except FabricError as error:
                if not told:
                    _log.warning("%s", error)
                    told = True
                state = last
                if patience.over:
                    state = RunState("aborted", reason=f"{error}, for {patience.patience_s:g} s")
            if state != last:
                last = state
                if state.phase == "aborted":
                    self.reactor.call_soon_threadsafe(partial(self._abort, state.reason or "the run is called off"))
                else:
                    self.reactor.call_soon_threadsafe(partial(self._enter, self._clock.on_own(state), on_phase))
            self._beat_now.wait(pause_s)

    def _compared_beat(self) -> RunState:
        was_known = self._clock.is_known
        state, exchange = self._control.beat(self._heartbeat())
        self._clock.compare(exchange)
        if self._ready and self._clock.is_known != was_known:
            self._beat_now.set()  # it was not as ready as it is
        return state

    def _end_beating(self) -> None:
        self._ended.set()
        self._beat_now.set()

    def _enter(self, state: RunState, on_phase: Callable[[RunState], None]) -> None:
        if state.phase == "running":
            # What is set up by now stays to the end. A collection that visits all of it would hold the streams up.
            gc.collect()
            gc.freeze()
            give_back()
        on_phase(state)

    def _heartbeat(self) -> Heartbeat:
        totals = add_tallies(list(self.tallies.values()))
        ready = self._is_ready
        waits = self._clock.wants if self.ready else self.waits()
        in_use = dict(self._in_use)
        return Heartbeat(
            self.nodes,
            ready,
            self.drained,
            totals,
            self._refused,
            waits,
            in_use,
            self.incarnation,
            may_wait=ready,
            round_trip_s=self._clock.longest_round_trip_s,
            loading=self._loading or (not self._ready and self.still_comes()),
        )

    @property
    def _is_ready(self) -> bool:
        return self._ready and self._clock.is_known

    def _fetch(self) -> None:
        opened: set[tuple[str, str, str]] = set()
        refused: dict[str, Refusal] = {}
        self._loading = True
        self._load_ahead()
        self._loading = False
        while (item := self._announced.get()) is not None:
            node, workload, body = item
            try:
                manifest = wire.parse_manifest(body)
            except RejectedError as rejected:
                _log.error("%s: %s", workload, rejected)
                continue
            if (node, workload, manifest.digest) in opened:
                continue  # a retained announcement comes again at every reconnection
            self._loads(True)
            try:
                if workload not in self.plan.workloads or manifest.runtime not in BUILT_IN:
                    raise ModelError("no model for a workload of this node")
                path = self.work_dir / f"{manifest.digest}.model"
                if not _is_whole(path, manifest.digest):
                    url = self.plan.endpoints[node].models
                    with HttpClient(url, self.token, timeout_s=LONG_SILENCE_S) as client:
                        fetch(client, f"/v1/models/{manifest.digest}", path, digest=manifest.digest)
                    self._fetched_ns[workload, manifest.digest] = now_ns()
                batch = 1 if node in self.plan.shares else self.plan.workloads[workload].batch.max_batch
                runtime = open_runtime(path, manifest, warm_for=batch)
                opened.add((node, workload, manifest.digest))
                refused.pop(workload, None)
                if self._on_model is not None:
                    self._on_model(workload, runtime, manifest)
            except (EdgebenchError, OSError) as error:
                # The verdict names the roll-out that a node did not take up; the log says why. Without a first model
                # it will never be ready.
                why = f"the announced model {manifest.digest[:12]} is not used: {error}"
                _log.error("%s: %s", workload, why)
                if not any(workload == each for _, each, _ in opened):
                    refused[workload] = Refusal(workload, manifest.digest, why)
            finally:
                self._loads(not self._announced.empty())
            self._refused = tuple(refused.values())
            if refused:
                self._beat_now.set()

    def _loads(self, loading: bool) -> None:
        """Whether it loads a model. It is told at once, since what loads it may let nothing else run."""
        if loading and not self._loading and not self._ready:
            self._beat_now.set()
        self._loading = loading

    def _load_ahead(self) -> None:
        """Import what models run on, before one is here, where any is to decide."""
        plans = [plan for plan in self.plan.workloads.values() if plan.model.runtime == "litert"]
        deciders = {name for plan in plans for name in plan.deciders.values()}
        if deciders & set(self.nodes) or any(plan.has_model(name) for plan in plans for name in self.nodes):
            from edgebench.inference.litert import interpreter_class

            with contextlib.suppress(ModelError, ImportError, OSError):  # which is told of when there is a model
                interpreter_class()

    def _flush_again(self) -> None:
        if not self._ended.is_set():
            self._sample_usage()
            self._to_write.put(self._gathered())

    def _write_down(self) -> None:
        """In a thread of its own: an SD card may take a second for it, and samples are due meanwhile."""
        while (written := self._to_write.get()) is not None:
            try:
                self._write(written)
            except FabricError as error:
                self.reactor.call_soon_threadsafe(partial(_fail, error))
                return
            self.reactor.call_soon_threadsafe(self._written_down)

    def _written_down(self) -> None:
        self._after_flush()
        self.reactor.call_later(_FLUSH_S, self._flush_again)

    def _write(self, written: bytes) -> None:
        """Raises FabricError where a disk fails."""
        try:
            self._before_write()
        except OSError as error:
            raise FabricError(f"what is kept to be sent is not safe on disk: {error.strerror or error}") from error
        try:
            self._spool.append(written)
        except OSError as error:
            raise FabricError(f"{self._spool.path}: no more can be recorded: {error.strerror or error}") from error

    def _flush_last(self) -> None:
        """Write down all there is, once nothing else is written any more."""
        self._to_write.put(None)
        self._writing.join()
        written = self._gathered()
        self._write(written)
        self._after_flush()

    def _sample_usage(self) -> None:
        self.write(Used(self.nodes, usage_now(), self.incarnation))
        self.write(Hiccuped(self.nodes[0], self._hiccups.take()))
        if (refused := self.refusals.news()) is not None:
            self.write(Refused(self.nodes[0], refused))

    def _gathered(self) -> bytes:
        """What is to be written down, as it is now."""
        self._before_flush()
        with self._entries_lock:
            entries, self._entries = self._entries, []
        at_ns = now_ns()
        released = [
            Released(machine.node, machine.noted(), self.incarnation, at_ns) for machine in self._machines.values()
        ]
        return encoded([*entries, *self._news(), *released])

    def _news(self) -> Iterator[TallySnapshot]:
        """The counts that are others than they were; those of the first node always, which tell until when this process
        has counted."""
        at_ns = now_ns()
        for node, tallies in self.tallies.items():
            counts = _encode(tallies)
            if node == self.nodes[0] or counts != self._counted.get(node):
                self._counted[node] = counts
                yield TallySnapshot(at_ns, node, tallies, self.incarnation)


def _is_whole(path: Path, digest: str) -> bool:
    """Whether a model is there already. One that an earlier life has fetched may have been lost in part with power."""
    return path.exists() and digest_of(path) == digest


def usage_now() -> Usage:
    """This process's use of the machine so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    try:
        rss_bytes = resident_bytes("self")
    except OSError:  # no /proc: macOS, where ru_maxrss is in bytes and the best there is
        rss_bytes = used.ru_maxrss
    return Usage(now_ns(), used.ru_utime + used.ru_stime, rss_bytes)


def versions() -> dict[str, str]:
    """Versions of what this process runs on."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": sys.version.split()[0]}
    for package in ("edgebench", "paho-mqtt", "numpy", "msgspec", "ai-edge-litert", "tflite-runtime", "tensorflow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def start_node(program: str, argv: list[str] | None, host: Callable[[NodeProcess, ControlClient, Path], None]) -> int:
    """The command line of a node program: join the run that a cloud controls, and host nodes until it ends.

    The token comes from the environment, so that no process list shows it. Returns the exit status.
    """
    parser = argparse.ArgumentParser(prog=program)
    parser.add_argument("--cloud", required=True, metavar="URL", help="the control plane, e.g. http://192.0.2.1:8080")
    parser.add_argument(
        "--node", required=True, action="append", metavar="NAME", help="a node to host; may be repeated"
    )
    parser.add_argument(
        "--incarnation", type=int, default=0, metavar="N", help="how often they have been started before in this run"
    )
    parser.add_argument("--work-dir", type=Path, required=True, metavar="DIR", help="for records and fetched models")
    parser.add_argument("--lifeline", action="store_true", help="stop in good order when standard input ends")
    parser.add_argument("--listen-fd", type=int, metavar="FD", help="a listening socket, handed down, for its site")
    args = parser.parse_args(argv)
    allow_descriptors()
    log_to_stderr()
    token = os.environ.pop("EDGEBENCH_TOKEN", "")  # what this node starts, as a sensor's program, has no need of it
    threading.excepthook = end_with_thread
    try:
        if args.lifeline:
            end_with_stdin()
        args.work_dir.mkdir(parents=True, exist_ok=True)
        control, plan = join_run(args.cloud, args.node, token)
        listening = None if args.listen_fd is None else socket.socket(fileno=args.listen_fd)
        process = NodeProcess(plan, control, token, args.work_dir, incarnation=args.incarnation, listening=listening)
        host(process, control, args.work_dir)
    except RunBrokenOffError:
        return EXIT_BROKEN_OFF
    except EdgebenchError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    return 0


def join_run(
    control_url: str, nodes: list[str], token: str, *, patience_s: float = 60.0
) -> tuple[ControlClient, Slice]:
    """Fetch the slice of these nodes; waits for the cloud to come up.

    Raises FabricError where it refuses, or has not answered for `patience_s`.
    """
    client = ControlClient(control_url, token, patience_s=patience_s)
    patience = Patience(patience_s)
    while True:
        try:
            return client, client.slice_of(nodes)
        except RefusedError as error:
            raise FabricError(f"{error} (is this the token, in EDGEBENCH_TOKEN, and are these the nodes?)") from error
        except FabricError:
            if patience.over:
                raise
            patience.pause()


def end_with_thread(failure: threading.ExceptHookArgs) -> None:
    """A thread that dies of a mistake of ours takes its process along, so that the verdict knows of it."""
    name = failure.thread.name if failure.thread is not None else "?"
    _log.critical(
        "thread %s died",
        name,
        exc_info=(failure.exc_type, failure.exc_value or failure.exc_type(), failure.exc_traceback),
    )
    os._exit(EXIT_BROKEN_OFF)


def end_with_stdin() -> None:
    """Turn the end of standard input into SIGTERM: whoever holds the other end is this process's reason to live."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
