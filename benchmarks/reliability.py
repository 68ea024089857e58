"""What a run loses when things break, by broker and by fault: told apart from what the run says of itself.

    python benchmarks/reliability.py [--schedules N] [--json] [--out DIR] [--jobs N] [--broker KIND]… [--fault NAME]…
                                     [--durability none|process|power] [--keep-older]

A schedule is a short run of real parts (brokers, cloud, edge node, device agent; 240 samples of which the edge decides
a half and the cloud the other), in which a fault is brought about one to three times, at seeded times and to seeded
parts. Cloud, edge and devices keep journals of their own, apart from all records: each sample that a device accepts,
each decision that leaves whoever made it, each that a device hears (`journalled.py`, `journals.py`). They tell what
became of each sample; the run's verdict tells what it says of itself. Schedules are seeded 0 to N - 1; what has been
done is kept in DIR (runs/reliability), so that a benchmark that was ended goes on where it was. The folders of
schedules in which not all was decided exactly once stay there, too.

The faults, and the level of durability at which each is tried, the least that promises to survive it (see
docs/reliability.md):

kill (process): an edge node, a device agent or a broker dies by SIGKILL, and is started again.
pause (none): one of them stands still for up to 1.5 s.
cut (none; with nats-server process): a device's link or the edge's uplink breaks for up to 1 s.
restart (process): a broker ends in good order, and is started again.
power-cut (power): the edge's machine with its broker, the cloud's broker's, or the devices' machine loses power and is
    there again: what was not synced is gone (`unsynced.py`; it wants libfuse3 and mfusepy, and the right to mount).
bit-flip, truncation (process): a broker ends, a bit of a file in its store flips, or the file is cut off, and it starts
    again.
same-client-id (process): somebody else connects to a broker by the name of a device, the edge or the cloud.
packet-id-wrap (none): one device sends more messages than MQTT has packet ids, while edge and broker stand still now
    and then.

Keys of the printed object, by broker and fault: `durability`; `schedules`, how many there were, and of these:
exactly_once: each accepted sample had one decision made on it, which its device heard, and the run says nothing to the
    contrary. What it says against its times and against the machine is left out (kinds `host`, `load`, `disturbance`,
    `link`): schedules run side by side, so such a run may well be invalid.
declared_invalid: the run says that it lost something, or for another reason that it is not to be trusted (`declared`:
    the seeds).
wrong: the run says nothing to the contrary, and its journals do (`wrongs`: the seeds).
older: how many of all of these were found with another state of the code (`--keep-older`), and not now.
machine: cores, and the versions of the brokers.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, get_args

import msgspec

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.reliability_run import Broker, Fault, Judged, judged, promised  # noqa: E402
from edgebench.fabric.brokers.choice import choose  # noqa: E402
from edgebench.lab.wheel import code_digest  # noqa: E402
from edgebench.topology.model import Durability  # noqa: E402

BROKERS: tuple[Broker, ...] = get_args(Broker)
FAULTS: tuple[Fault, ...] = get_args(Fault)

JUDGING = ("reliability_run", "journalled", "journals", "unsynced")
"""Of this folder, what has a part in an outcome."""

Task = tuple[Broker, Fault, int, Durability]


def state_of(broker: Broker) -> str:
    """A digest of what outcomes depend on: our code, that of the benchmark, and the broker's version."""
    digest = hashlib.sha256(code_digest().encode())
    for name in JUDGING:
        digest.update((ROOT / "benchmarks" / f"{name}.py").read_bytes())
    digest.update(choose(broker)[1].version.encode())
    return digest.hexdigest()[:16]


def done_before(path: Path) -> Iterator[Judged]:
    """What an earlier benchmark has found; a line that it was killed in is not counted."""
    decoder = msgspec.json.Decoder(Judged)
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            yield decoder.decode(line)
        except msgspec.DecodeError:
            continue


def known(path: Path, states: Mapping[Broker, str], *, keep_older: bool) -> dict[Task, Judged]:
    """What an earlier benchmark has found with this state of the code; or with others, where there is nothing newer."""
    found: dict[Task, Judged] = {}
    for each in done_before(path):
        task = each.broker, each.fault, each.seed, each.durability
        state = states.get(each.broker)
        if each.state == state or (keep_older and (task not in found or found[task].state != state)):
            found[task] = each
    return found


def _run(folder: Path, task: Task) -> Judged:
    broker, fault, seed, durability = task
    return judged(folder / f"{broker}-{fault}-{durability}-{seed}", broker, fault, seed, durability)


def measured(tasks: list[Task], out: Path, jobs: int, *, keep_older: bool) -> tuple[list[Judged], int]:
    """All of these, those that are done already included; and how many were found with another state of the code."""
    states = {broker: state_of(broker) for broker, *_ in tasks}
    path = out / "schedules.jsonl"
    found = known(path, states, keep_older=keep_older)
    left = [task for task in tasks if task not in found]
    context = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(path.open("ab"))
        pool = ProcessPoolExecutor(jobs, mp_context=context)
        stack.callback(pool.shutdown, cancel_futures=True)  # ended by hand, it does not begin with the others
        running = {pool.submit(_run, out, task): task for task in left}
        for number, each in enumerate(as_completed(running), 1):
            task = running[each]
            found[task] = outcome = msgspec.structs.replace(each.result(), state=states[task[0]])
            file.write(msgspec.json.encode(outcome) + b"\n")
            file.flush()
            shown = "" if outcome.outcome == "exactly_once" else f": {'; '.join(outcome.said) or 'it says nothing'}"
            print(f"{number}/{len(left)} {' '.join(map(str, task))} {outcome.outcome}{shown}", file=sys.stderr)
    outcomes = [found[task] for task in tasks]
    return outcomes, sum(each.state != states[each.broker] for each in outcomes)


def table(outcomes: list[Judged]) -> dict[str, dict[str, Any]]:
    """By broker and fault."""
    cells: dict[tuple[str, str], list[Judged]] = {}
    for each in outcomes:
        cells.setdefault((each.broker, each.fault), []).append(each)
    found: dict[str, dict[str, Any]] = {}
    for (broker, fault), of_cell in cells.items():
        seeds = {
            name: [each.seed for each in of_cell if each.outcome == name] for name in ("declared_invalid", "wrong")
        }
        found.setdefault(broker, {})[fault] = {
            "durability": of_cell[0].durability,
            "schedules": len(of_cell),
            "exactly_once": sum(each.outcome == "exactly_once" for each in of_cell),
            "declared_invalid": len(seeds["declared_invalid"]),
            "wrong": len(seeds["wrong"]),
            "declared": seeds["declared_invalid"],
            "wrongs": seeds["wrong"],
        }
    return found


def main() -> None:
    """Run what is asked for, and print."""
    parser = argparse.ArgumentParser(description="What a run loses when things break; see the top of this file.")
    parser.add_argument("--schedules", type=int, default=30, metavar="N", help="of each broker and fault (30)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--out", type=Path, default=Path("runs") / "reliability", metavar="DIR")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="schedules that run side by side (2)")
    parser.add_argument("--broker", choices=BROKERS, action="append", help="this kind only; may be repeated")
    parser.add_argument("--fault", choices=FAULTS, action="append", help="this one only; may be repeated")
    parser.add_argument("--durability", choices=get_args(Durability), help="this level, whatever promises what")
    parser.add_argument("--keep-older", action="store_true", help="let stand what other states of the code came to")
    args = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    brokers = args.broker or BROKERS
    # By seed: what was done when it is ended says something of each broker and fault.
    tasks: list[Task] = [
        (broker, fault, seed, args.durability or promised(broker, fault))
        for seed in range(args.schedules)
        for fault in args.fault or FAULTS
        for broker in brokers
    ]
    outcomes, older = measured(tasks, out, args.jobs, keep_older=args.keep_older)
    figures = table(outcomes)
    machine = {"cores": os.cpu_count(), **{broker: choose(broker)[1].version for broker in brokers}}
    if args.json:
        print(json.dumps({**figures, "older": older, "machine": machine}, indent=2))
        return
    print(f"{'':16}{'':10}" + "".join(f"{broker:>36}" for broker in figures))
    for fault in args.fault or FAULTS:
        cells = [figures[broker][fault] for broker in figures]
        counts = (f"{c['exactly_once']} once, {c['declared_invalid']} declared, {c['wrong']} wrong" for c in cells)
        print(f"{fault:16}{cells[0]['durability']:10}" + "".join(f"{each:>36}" for each in counts))
    if older:
        print(f"{older} of {len(outcomes)} were found with another state of the code")


if __name__ == "__main__":
    main()
