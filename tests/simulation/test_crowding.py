"""Nodes with fewer cores than threads, simulated: each job waits for a core."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgebench
from edgebench.errors import EdgebenchError
from edgebench.experiments import simulate
from edgebench.experiments.simulate import simulate_with
from edgebench.fabric.records import Cut
from edgebench.results.rundir import read_records
from edgebench.simulation import crowding
from edgebench.simulation.service_times import Cuts, ServiceTimes
from edgebench.topology.profiles import Inference, Profile
from tests.profiles import inference, message, ms_times, profile
from tests.simulation.made import times, with_cuts
from tests.simulation.wards import WATCH, slow_ward

PLAIN = profile(
    inference=(inference(1, 20.0, runtime="litert"),),
    messages=(message(100, 1.0, 2.0, 3.0), message(100_000, 1.0, 2.0, 3.0)),
)
"""Any message takes its broker 1 ms, 2 to be taken in, and 3 to be sent; a sample 20 to be decided."""


def heavy(of: Inference) -> Inference:
    return Inference(of.task, "heavy", of.runtime, of.quantisation, of.threads, of.batch, of.times)


LIGHT = [inference(batch, *ms, runtime="litert") for batch, ms in ((1, (10.0, 14.0, 30.0)), (8, (50.0,)))]
VARIED = profile(
    inference=(*LIGHT, *map(heavy, LIGHT)),
    messages=(message(100, 1.0, 2.0, 1.5), message(100_000, 3.0, 6.0, 4.0)),
    wake=ms_times(0.1, 0.3),
)


def with_cores(board: Profile, number: int) -> Profile:
    given = {name: getattr(board, name) for name in ("inference", "messages", "wake")}
    return profile(cores=number, **given)


def plan(infer: Any, load: Any, **more: Any) -> dict[str, Any]:
    found = {**WATCH, "load": load, "place": {"infer": infer}, **more}
    return {name: value for name, value in found.items() if infer != "device" or name != "batch"}


def simulated(
    folder: Path, cores: int, workloads: dict[str, Any], board: Profile = PLAIN, *, beds: int = 3, **more: Any
) -> Path:
    """The run directory of beds on one ward, all of them with so many cores each."""
    file = slow_ward(folder, links=[], board=with_cores(board, cores), workloads=workloads, **more)
    given = edgebench.load(file, [f"nodes.bed.count={beds}"])
    known = with_cuts(times(unsure=0.4), Cuts({2: Cut(2, "second", 400, 6.0, 4.0)}, frozenset({2}), 3))
    found, _ = simulate_with(known, given, folder / "runs", page=False)
    return found


def latencies_ms(run_dir: Path, workload: str = "watch") -> list[float]:
    """In the order of devices, and of their samples."""
    names = ("workload", "node", "seq", "scheduled_ns", "arrived_ns")
    table = read_records(run_dir).to_pydict()
    rows = sorted(zip(*(table[name] for name in names), strict=True))
    return [(arrived - due) / 1e6 for name, *_, due, arrived in rows if name == workload and arrived is not None]


@pytest.fixture
def at_once(tmp_path: Path) -> dict[str, str]:
    """A load of one sample of each bed."""
    (tmp_path / "due.txt").write_text("1\n")
    return {"kind": "trace", "file": str(tmp_path / "due.txt")}


def test_jobs_wait_for_a_core_in_the_order_in_which_their_threads_asked(tmp_path: Path, at_once: Any) -> None:
    """Worked out by hand. Three cores: the broker, messages and the model have one each, and the model's thread sends
    one answer before it decides the next sample. One core: at 3 the first of two samples reaches the ward's broker, is
    taken in until 6, and decided from 7 to 27, since the broker had asked before; the other one is taken in until 29,
    and decided from 33 to 53, behind the first answer and the broker's part of it."""
    two = {"watch": plan("edge", at_once)}
    for cores, expected in ((3, [32, 55]), (1, [35, 59])):
        assert latencies_ms(simulated(tmp_path, cores, two, beds=2)) == expected


def test_a_core_that_all_of_a_device_share_is_waited_for(tmp_path: Path, at_once: Any) -> None:
    """The first of what falls due at one time is decided, for 20 ms; then the other one is sent."""
    both = {"own": plan("device", at_once), "watch": plan("edge", at_once)}
    run_dir = simulated(tmp_path, 1, both, beds=1)
    assert latencies_ms(run_dir, "own") == [20]
    assert latencies_ms(run_dir) == [20 + 3 + 1 + 2 + 20 + 3 + 1 + 2]


def test_one_core_decides_as_many_as_all_that_it_does_leaves_time_for(tmp_path: Path) -> None:
    """39 samples a second, of which each keeps a ward busy for 27 ms, and of these the thread of its model for 23."""
    load = {"kind": "fixed", "rate_hz": 13}
    for cores, decided in ((1, 10_000 / 27), (3, 390)):
        table = read_records(simulated(tmp_path, cores, {"watch": plan("edge", load)})).to_pydict()
        finished_s = np.array([at for at in table["finished_ns"] if at is not None]) / 1e9
        assert (finished_s < 10).sum() == pytest.approx(decided, rel=0.01)


PLACES: dict[str, dict[str, Any]] = {
    "device": {"infer": "device"},
    "edge": {"infer": "edge", "batch": {"max_batch": 8, "max_wait_ms": 20}},
    "cloud": {"infer": "cloud"},
    "cascade": {"infer": "cascade", "cascade": {}},
    "chain": {"infer": ["edge", "cloud"], "split": 2},
    "mixed": {"infer": {"bed-0": "device", "bed-1": "edge", "bed-2": "cloud"}},
}


@pytest.mark.parametrize("place", PLACES)
def test_with_cores_for_all_it_takes_what_it_takes_where_nobody_waits(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The law of cores, and the distributions that windows are simulated by, are the same but for their draws."""
    workloads = {"watch": plan(load={"kind": "poisson", "rate_hz": 6}, **PLACES[place])}
    found = []
    for threads in (0, 99):
        monkeypatch.setattr(crowding, "_threads", lambda *_, threads=threads: threads)
        ms = np.array(latencies_ms(simulated(tmp_path, 64, workloads, VARIED, duration_s=120)))
        found.append([ms.mean(), *np.percentile(ms, [10, 50, 90])])
    assert len(ms) > 1_900
    assert found[1] == pytest.approx(found[0], rel=0.06)


def test_what_cores_would_do_that_nobody_knows_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = slow_ward(tmp_path, links=[], board=with_cores(PLAIN, 2), workloads={"watch": WATCH}, durability="process")
    with pytest.raises(EdgebenchError) as refused:
        simulate_with(times(), edgebench.load(file), tmp_path / "runs", page=False)
    assert str(refused.value) == (
        f"{file}: $.durability: process, and no profile tells what keeping samples takes of the cores of ward "
        "(edgebench run it)"
    )
    below = slow_ward(tmp_path, ("ward",), links=[], board=with_cores(PLAIN, 2), workloads={"watch": WATCH})
    with pytest.raises(EdgebenchError, match=r"takes besides the link of icu-death on profile host \(name"):
        simulate_with(ServiceTimes(), edgebench.load(below), tmp_path / "runs", page=False)
    monkeypatch.setattr(simulate, "MOST_RECORDED", 10)
    with pytest.raises(EdgebenchError, match=r"\$\.nodes\.ward\.profile: fewer cores than threads, of so many devices"):
        simulated(tmp_path, 2, {"watch": WATCH})
    assert not list((tmp_path / "runs").glob("*"))
