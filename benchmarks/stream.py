"""Streams and decisions: the whole system held against a bare loop, on this machine, in one run.

    python benchmarks/stream.py [--json] [--quick] [--anyway] [--broker auto|mosquitto|nats]

The model is an LSTM of 16 units on 48 × 76 float32 (a sample is 14.6 kB). The system is `edgebench run`: broker, cloud,
edge node and device agent as processes of their own, with checks, records, heartbeats and report. The bare loop
(`bare_loop.py`) is two processes, paho in → LiteRT → paho out and nothing else, with the same QoS, message size and
load. Both take turns, and a ratio is the median of the ratios of the pairs, since a machine is rarely quiet for long.
`--quick` does next to nothing, to see that it runs; its figures mean little.

Keys of the printed object; every run of the system must decide each of its samples once, or the benchmark fails:

throughput_ratio: decisions/s of the system over those of the bare loop, the lesser of the two QoS levels. One device
    sends `samples` samples as fast as it can (MLPerf's offline load); from the first sample due to the last decision
    at the device. The edge batches what has arrived, up to 32; the bare loop decides one at a time, as it does nothing
    else than its steps, through nats-server, which is there wherever edgebench is.
throughput_limit_ratio: the same over a bare loop that has what the system has: batches of 32, and the same broker.
throughput: by QoS: `ratio`, `limit_ratio`, `ratios` and `limit_ratios` (each turn's), and the medians `system_hz`,
    `bare_hz`, `limit_hz`.
edge_overhead_ratio: edge time over the bare interpreter call, the greater of the two batch sizes. Edge time is the
    `infer` hop as recorded with every sample: from the batch taken off the queue to its outputs ready as an array (a
    sample is laid out in the batch as it is taken off, within the `queue` hop). The bare call is `set_tensor`,
    `invoke`, `get_tensor` on the same network converted for exactly that batch size, with the batch laid out ready; it
    is timed within the bare loop under the same load, so that both are called by a process that has just woken up.
edge_overhead: by batch size (1: single-stream load, 32: multi-stream load of 32, both QoS 0): `ratio`, `ratios`, and
    the medians `edge_us`, `bare_us`.
agent_one_device_mb: most memory that a device agent with one device at 10 Hz ever had (RSS, all of it, in 10^6 bytes).
agent_1000_devices: one agent process with `devices` devices at 1 Hz each, QoS 0: `cores` it kept busy while they
    streamed, `slip_p99_ms` (from the time a sample was due to its capture), `mb` (most memory), `decided`, `lost`,
    `latency_p50_ms`, `latency_p99_ms`, `valid` and `reasons` (the verdict on that run), and what the rest of the site
    used: `edge_cores`, `broker_cores`, `broker_mb`. They all share the machine.
agent_1000_devices_qos_1: the same with QoS 1, where brokers differ the most; see `brokers.py`.
broker: the kind that the system used, and its version (`--broker`; see docs/brokers.md), as does the bare loop but
    where said otherwise.
start_to_first_decision_s: from the start of the command `edgebench run` to the arrival of the first decision, with the
    model in the registry: the median of the runs with one device (`starts_s` lists them). This and the memory of agents
    are as Python has them by default, which keeps what it has compiled, also where the environment says that it is not
    to (PYTHONDONTWRITEBYTECODE): to compile everything anew takes an agent a second and more, and 7 MB.
samples, rounds, host: what was done, and where; `host.stolen` is the share of CPU time that other guests took.
disturbed, watched: how busy others kept the machine during each pair, and during the other figures; see `quiet.py`,
    which refuses a disturbed pair unless `--anyway` is given.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from benchmarks.quiet import Quiet, add_anyway
from edgebench.cpu import cpu_times
from edgebench.fabric.brokers import BrokerSettings, make_broker
from edgebench.fabric.brokers.choice import choose
from edgebench.fabric.endpoints import parse_broker_url
from edgebench.seeds import rng_for
from edgebench.topology.model import BrokerKind, Durability

HERE = Path(__file__).resolve().parent
PATIENCE_S = 300.0
SHAPE = (48, 76)
MAX_BATCH = 32

TOPOLOGY = """\
schema: 1
name: benchmark
seed: 7
duration_s: {duration_s}
nodes:
  cloud:  {{tier: cloud}}
  edge:   {{tier: edge, parent: cloud}}
  device: {{tier: device, count: {devices}, parent: edge}}
workloads:
  watch:
    task: icu-death
    source: device
    load: {load}
    qos: {qos}
    model: {{source: "sha256:{digest}"}}
    batch: {{max_batch: {max_batch}, max_wait_ms: {max_wait_ms}}}
    queue: {{max_samples: 1000000}}
broker: {{kind: {broker}}}
durability: {durability}
"""


@dataclass(frozen=True)
class Size:
    """How much is done. samples: of an offline load, in whole batches. closed_s: of a closed loop. many_s: of the many
    devices."""

    rounds: int
    samples: int
    closed_s: float
    devices: int
    many_s: float


FULL = Size(rounds=3, samples=20_000, closed_s=4.0, devices=1000, many_s=20.0)
QUICK = Size(rounds=1, samples=192, closed_s=0.5, devices=20, many_s=3.0)


class Bench:
    """The two sides, each run as often as asked, with brokers of one kind; everything is written below `directory`."""

    def __init__(self, directory: Path, broker: BrokerKind = "auto", durability: Durability = "none") -> None:
        self._directory = directory
        self.broker = broker
        self._durability = durability
        self._runs = 0
        self.starts_s: list[float] = []
        built = subprocess.run(
            [sys.executable, str(HERE / "lstm16.py"), str(directory)],
            check=False,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        if built.returncode != 0:
            raise SystemExit(f"the model could not be built: {built.stderr}")
        self._digest = (directory / "digest").read_text()
        x = rng_for(7, "benchmark").normal(size=(256, *SHAPE)).astype(np.float32)
        np.save(directory / "samples.npy", x, allow_pickle=False)

    def system(
        self,
        load: str,
        *,
        qos: int = 0,
        duration_s: float,
        devices: int = 1,
        max_batch: int = MAX_BATCH,
        max_wait_ms: float = 0.0,
    ) -> dict[str, Any]:
        """`result.json` of a run of the real thing."""
        self._runs += 1
        file = self._directory / f"topology-{self._runs}.yaml"
        file.write_text(
            TOPOLOGY.format(
                load=load,
                qos=qos,
                duration_s=duration_s,
                devices=devices,
                digest=self._digest,
                max_batch=max_batch,
                max_wait_ms=max_wait_ms,
                broker=self.broker,
                durability=self._durability,
            )
        )
        command = [sys.executable, "-m", "edgebench.cli", "run", str(file), "--out", str(self._directory / "runs")]
        command += ["--registry", str(self._directory / "registry"), "--json"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE_S)
        if not done.stdout:
            raise SystemExit(f"no result of {' '.join(command)}: {done.stderr}")
        result: dict[str, Any] = json.loads(done.stdout)
        watch = result["workloads"]["watch"]
        if watch["decided"] != watch["scheduled"] or watch["duplicated"] or result["deaths"]:
            raise SystemExit(f"a run lost samples or parts: {'; '.join(result['verdict']['reasons'])}")
        if devices == 1:
            self.starts_s.append(result["started_to_first_decision_s"])
        return result

    def bare(
        self, *, qos: int, batch: int, query: int, seconds: float, broker: BrokerKind | None = None
    ) -> tuple[float, float]:
        """Decisions/s of the bare loop, and the median time of an interpreter call in µs. broker: unless it is the
        system's."""
        self._runs += 1
        settings = BrokerSettings("bare", self._directory / f"broker-{self._runs}")
        with make_broker(settings, broker or self.broker) as running:
            url = parse_broker_url(running.url)
            loop = [sys.executable, str(HERE / "bare_loop.py")]
            where = [url.host, str(url.port), str(qos)]
            model = str(self._directory / f"bare-{batch}.tflite")
            with subprocess.Popen(
                [*loop, "decide", *where, model, str(batch)],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            ) as decider:
                if decider.stdout is None or decider.stdout.readline() != "ready\n":
                    raise SystemExit("the bare loop did not start")
                samples = str(self._directory / "samples.npy")
                sender = subprocess.run(
                    [*loop, "send", *where, samples, str(query), str(seconds)],
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                    timeout=PATIENCE_S,
                )
                called = json.loads(decider.stdout.readline())
        sent = json.loads(sender.stdout)
        return sent["decided"] / sent["s"], called["call_us"]


def throughput(bench: Bench, quiet: Quiet, size: Size, qos: int) -> dict[str, Any]:
    """Decisions/s of all three, in turns."""
    bare, limit, system = [], [], []
    for number in range(size.rounds):
        with quiet.during(f"throughput, QoS {qos}, turn {number + 1}"):
            bare.append(bench.bare(qos=qos, batch=1, query=size.samples, seconds=0.0, broker="nats")[0])
            result = bench.system(f"{{kind: offline, samples: {size.samples}}}", qos=qos, duration_s=1.0)
            limit.append(bench.bare(qos=qos, batch=MAX_BATCH, query=size.samples, seconds=0.0)[0])
        system.append(result["workloads"]["watch"]["throughput_hz"])
        _tell(f"QoS {qos}: system {system[-1]:,.0f}/s, bare {bare[-1]:,.0f}/s, at most {limit[-1]:,.0f}/s")
    at_most = _compared(system, limit, "system_hz", "limit_hz", digits=0)
    return {
        **_compared(system, bare, "system_hz", "bare_hz", digits=0),
        "limit_ratio": at_most["ratio"],
        "limit_ratios": at_most["ratios"],
        "limit_hz": at_most["limit_hz"],
    }


def overhead(bench: Bench, quiet: Quiet, size: Size, batch: int) -> dict[str, Any]:
    """Edge time of a batch against the bare call, in turns."""
    load = "{kind: single-stream}" if batch == 1 else f"{{kind: multi-stream, samples: {batch}}}"
    bare, edge = [], []
    for number in range(size.rounds):
        wait_ms = 0.0 if batch == 1 else 1000.0  # so that every batch is a full one
        with quiet.during(f"edge overhead, batch {batch}, pair {number + 1}"):
            bare.append(bench.bare(qos=0, batch=batch, query=batch, seconds=size.closed_s)[1])
            result = bench.system(load, duration_s=size.closed_s, max_batch=batch, max_wait_ms=wait_ms)
        watch = result["workloads"]["watch"]
        if watch["mean_batch"] != batch:
            raise SystemExit(f"batches of {watch['mean_batch']} where {batch} was meant")
        edge.append(watch["hops_ms"]["infer"]["p50"] * 1e3)
        _tell(f"batch {batch}: edge {edge[-1]:,.1f} µs, bare call {bare[-1]:,.1f} µs")
    return _compared(edge, bare, "edge_us", "bare_us", digits=1)


def one_device(bench: Bench, size: Size) -> float:
    """Memory of an agent with one device, in MB."""
    result = bench.system("{kind: fixed, rate_hz: 10}", qos=1, duration_s=size.many_s)
    return float(_process_of(result, "device")["rss_mb"])


def many_devices(bench: Bench, size: Size, qos: int) -> dict[str, Any]:
    """What many devices cost one agent."""
    result = bench.system("{kind: fixed, rate_hz: 1}", qos=qos, duration_s=size.many_s, devices=size.devices)
    watch, agent = result["workloads"]["watch"], _process_of(result, "device")
    return {
        "devices": size.devices,
        "cores": agent["busy_cores"],
        "slip_p99_ms": watch["slip_ms"]["p99"],
        "mb": agent["rss_mb"],
        "decided": watch["decided"],
        "lost": watch["lost"],
        "latency_p50_ms": watch["latency_ms"]["p50"],
        "latency_p99_ms": watch["latency_ms"]["p99"],
        "valid": result["verdict"]["valid"],
        "reasons": result["verdict"]["reasons"],
        "edge_cores": _process_of(result, "edge")["busy_cores"],
        "broker_cores": _process_of(result, "broker of edge")["busy_cores"],
        "broker_mb": _process_of(result, "broker of edge")["rss_mb"],
    }


def measured(size: Size, quiet: Quiet, broker: BrokerKind) -> dict[str, Any]:
    """Everything."""
    server, program = choose(broker)
    before = cpu_times()
    with tempfile.TemporaryDirectory(prefix="edgebench-stream-") as directory:
        bench = Bench(Path(directory), broker)
        by_qos = {f"qos_{qos}": throughput(bench, quiet, size, qos) for qos in (0, 1)}
        by_batch = {f"batch_{batch}": overhead(bench, quiet, size, batch) for batch in (1, 32)}
        with quiet.during("agents"):
            one_device_mb = one_device(bench, size)
            many = [many_devices(bench, size, qos) for qos in (0, 1)]
    spent = cpu_times().since(before)
    return {
        "throughput_ratio": min(figures["ratio"] for figures in by_qos.values()),
        "throughput_limit_ratio": min(figures["limit_ratio"] for figures in by_qos.values()),
        "throughput": by_qos,
        "edge_overhead_ratio": max(figures["ratio"] for figures in by_batch.values()),
        "edge_overhead": by_batch,
        "agent_one_device_mb": one_device_mb,
        "agent_1000_devices": many[0],
        "agent_1000_devices_qos_1": many[1],
        "start_to_first_decision_s": round(statistics.median(bench.starts_s), 2),
        "starts_s": [round(start_s, 2) for start_s in bench.starts_s],
        "samples": size.samples,
        "rounds": size.rounds,
        "broker": {"kind": server.kind, "version": program.version},
        "host": {"cores": os.cpu_count(), "stolen": round(spent.stolen_s / spent.total_s, 4)},
        **quiet.told(),
    }


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _compared(
    ours: list[float], reference: list[float], our_key: str, reference_key: str, digits: int
) -> dict[str, Any]:
    ratios = [mine / bare for mine, bare in zip(ours, reference, strict=True)]
    return {
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        our_key: round(statistics.median(ours), digits),
        reference_key: round(statistics.median(reference), digits),
    }


def _process_of(result: dict[str, Any], group: str) -> dict[str, Any]:
    (process,) = (figures for name, figures in result["processes"].items() if name.split("-")[0] == group)
    return dict(process)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="The whole system held against a bare loop; see the top of this file.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="next to nothing, to see that it runs")
    parser.add_argument("--broker", choices=get_args(BrokerKind), default="auto", help="which broker to use")
    add_anyway(parser)
    args = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # see the top
    figures = measured(QUICK if args.quick else FULL, Quiet(anyway=args.anyway), args.broker)
    if args.json:
        print(json.dumps(figures, indent=2))
        return
    for key, value in figures.items():
        print(f"{key:26} {json.dumps(value)}")


if __name__ == "__main__":
    main()
