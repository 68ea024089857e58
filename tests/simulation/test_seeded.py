from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgebench.core.schedules import open_loop
from edgebench.seeds import rng_for, seed_for
from edgebench.simulation.columns import DEVICE, DUE, FLOW
from edgebench.simulation.fleet import Group
from edgebench.simulation.hashing import numbered_seeds
from edgebench.simulation.jit import jit
from edgebench.simulation.seeded import generators, next_exponential, next_uniform, seeded
from tests.simulation.made import all_rows, laid_out, times, topology


@jit
def _drawn(states: NDArray[np.uint64], out: NDArray[np.float64]) -> None:
    for generator in range(len(states)):
        out[generator, 0] = next_uniform(states, generator)
        for number in range(1, out.shape[1]):
            out[generator, number] = next_exponential(states, generator)


def test_generators_draw_bit_for_bit_what_numpys_do() -> None:
    names = [f"bed-{number}" for number in range(50)]
    found = np.empty((50, 5_000))  # so many that every branch of the ziggurat is taken
    _drawn(generators(7, "load", "watch", [Group("bed", 0, "device", "host", 0, 50, True, "ward")]), found)
    for name, mine in zip(names, found, strict=True):
        rng = rng_for(7, "load", "watch", name)
        assert mine[0] == rng.random()
        assert (mine[1:] == rng.standard_exponential(4_999)).all()


def test_numbered_names_have_the_seeds_that_each_has_by_itself() -> None:
    for workload in ("w", "a" * 33, "ü" * 20, "x" * 200):  # so long that one block, two or more are hashed
        found = numbered_seeds(1_002, 7, "load", workload, "bed-")
        assert found.tolist() == [seed_for(7, "load", workload, f"bed-{number}") for number in range(1_002)]


def test_small_and_large_seeds_make_the_generators_that_numpy_makes() -> None:
    seeds = [0, 1, 2**32 - 1, 2**32, 2**63 - 1, seed_for(3, "x")]
    found = np.empty((len(seeds), 2))
    _drawn(seeded(np.array(seeds, np.uint64)), found)
    assert found[:, 0].tolist() == [np.random.default_rng(seed).random() for seed in seeds]  # noqa: TID251


def test_samples_fall_due_when_they_would_in_a_run(tmp_path: Path) -> None:
    trace = tmp_path / "due.txt"
    trace.write_text("0\n0.5\n0.5\n1.75\n9\n")
    nodes = {
        "cloud": {"tier": "cloud"},
        "ward": {"tier": "edge", "parent": "cloud"},
        "bed": {"tier": "device", "count": 5, "parent": "ward"},
        "door": {"tier": "device", "parent": "ward"},
    }
    both = ["bed", "door"]
    workloads = {
        "poisson": {"source": both, "load": {"kind": "poisson", "rate_hz": 20}},
        "fixed": {"source": "bed", "load": {"kind": "fixed", "rate_hz": 3}},
        "server": {"source": "door", "load": {"kind": "server", "rate_hz": 5, "p99_ms": 10}},
        "trace": {"source": both, "load": {"kind": "trace", "file": str(trace)}},
        "beside": {"source": both, "load": {"kind": "with", "workload": "poisson"}},
    }
    made = topology(nodes, workloads, duration_s=2.0, seed=5)
    layout = laid_out(made, times({size: [1_000] for size in range(1, 9)}))
    rows = all_rows(layout, messages_a_part=16)
    for flow in layout.flows:
        for device, name in zip(flow.devices.tolist(), layout.names(flow), strict=True):
            mine = rows[(rows[:, FLOW] == flow.number) & (rows[:, DEVICE] == device)]
            trace_s = [0.0, 0.5, 0.5, 1.75, 9.0] if flow.name == "trace" else []
            due = open_loop(flow.load, seed=5, device=name, workload=flow.paced_by, duration_s=2.0, trace_s=trace_s)
            assert sorted(mine[:, DUE].tolist()) == list(due), (flow.name, name)
