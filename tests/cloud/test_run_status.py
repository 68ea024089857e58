"""The state of a run, as heartbeats move it."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from cloud import director
from cloud.run_status import RunStatus
from edgebench.clock import now_s
from edgebench.core.tallies import Tally
from edgebench.errors import ModelError
from edgebench.fabric.slices import Heartbeat, Refusal, RunState


def test_a_run_is_ready_when_every_device_and_edge_is() -> None:
    async def course() -> None:
        status = RunStatus(devices=["bed-0", "bed-1"], edges=["ward"])
        waiting = asyncio.create_task(status.all_ready(set()))
        status.beat(Heartbeat(["bed-0", "bed-1"], ready=True, drained=False))
        status.beat(Heartbeat(["ward"], ready=False, drained=False))
        await asyncio.sleep(0)
        assert not waiting.done()
        status.beat(Heartbeat(["ward"], ready=True, drained=False))
        await asyncio.wait_for(waiting, 5.0)

    asyncio.run(course())


def test_the_first_model_that_a_node_refuses_ends_the_waiting_with_the_nodes_words() -> None:
    async def course() -> None:
        status = RunStatus(devices=["bed-0"], edges=["ward"])
        waiting = asyncio.create_task(status.all_ready({"ours"}))
        strange = Refusal("watch", "a stranger's", "no such model")
        status.beat(Heartbeat(["ward"], ready=False, drained=False, refused=(strange,)))
        await asyncio.sleep(0)
        assert not waiting.done()
        refused = (strange, Refusal("watch", "ours", "takes uint8"))
        status.beat(Heartbeat(["ward"], ready=False, drained=False, refused=refused))
        with pytest.raises(ModelError, match=r"^ward: watch: takes uint8$"):
            await asyncio.wait_for(waiting, 5.0)

    asyncio.run(course())


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes have a fraction of a second to be ready."""
    monkeypatch.setattr(director, "_READY_LOOK_S", 0.02)
    monkeypatch.setattr(director, "_READY_PATIENCE_S", 0.4)
    monkeypatch.setattr(director, "_SLOW_S", 0.1)


@pytest.mark.usefixtures("hasty")
def test_while_a_node_loads_a_model_all_are_waited_for_and_as_long_after_it() -> None:
    async def course() -> None:
        status = RunStatus(devices=["bed-0"], edges=["ward"])
        status.beat(Heartbeat(["ward"], ready=False, drained=False, loading=True))
        waiting = asyncio.create_task(director.ready_in_time(status, set()))
        await asyncio.sleep(0.8)
        assert status.preparing == "waiting for bed-0, ward"
        status.beat(Heartbeat(["ward"], ready=True, drained=False))  # the bed has yet to hear of it
        await asyncio.sleep(0.1)
        assert not waiting.done()
        status.beat(Heartbeat(["bed-0"], ready=True, drained=False))
        await asyncio.wait_for(waiting, 5.0)

    asyncio.run(course())


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("ends", ["silent", "dead", "at last"])
def test_who_is_not_ready_though_nobody_loads_a_model_is_named(ends: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def course() -> None:
        status = RunStatus(devices=["bed-0"], edges=["ward"])
        status.beat(Heartbeat(["bed-0"], ready=ends != "dead", drained=False, loading=ends == "dead"))
        status.beat(Heartbeat(["ward"], ready=False, drained=False, loading=ends == "at last"))
        if ends == "dead":
            status.died(["bed-0"])
        if ends == "at last":
            monkeypatch.setattr(director, "_LONGEST_LOADING_S", 0.8)
        with pytest.raises(ModelError, match=r"^not ready [01] s after the models: ward$"):
            await asyncio.wait_for(director.ready_in_time(status, set()), 5.0)

    asyncio.run(course())


def test_only_devices_have_to_drain() -> None:
    async def course() -> None:
        status = RunStatus(devices=["bed-0"], edges=["ward"])
        drained = asyncio.ensure_future(status.all_drained())
        status.beat(Heartbeat(["ward"], ready=True, drained=True))
        await asyncio.sleep(0)
        assert not drained.done()
        status.beat(Heartbeat(["bed-0"], ready=True, drained=True))
        await asyncio.wait_for(drained, 5.0)

    asyncio.run(course())


def test_a_device_that_was_started_again_is_waited_for_and_counts_on() -> None:
    async def course() -> None:
        status = RunStatus(devices=["bed-0"], edges=["ward"])
        beat = Heartbeat(["bed-0"], ready=True, drained=True, totals={"watch": Tally(sent=3)})
        status.beat(beat)
        status.died(["bed-0"])
        again = msgspec.structs.replace(beat, drained=False, totals={"watch": Tally(sent=2)}, incarnation=1)
        status.beat(again)
        drained = asyncio.ensure_future(status.all_drained())
        await asyncio.sleep(0)
        assert not drained.done()
        assert status.live().totals["watch"].sent == 5
        status.beat(msgspec.structs.replace(again, drained=True))
        await asyncio.wait_for(drained, 5.0)

    asyncio.run(course())


def test_a_heartbeat_brings_the_phase_back() -> None:
    status = RunStatus(devices=["bed-0"], edges=["ward"])
    beat = Heartbeat(["bed-0"], ready=True, drained=False)
    assert status.beat(beat).phase == "preparing"
    status.start(123)
    assert (status.beat(beat).phase, status.beat(beat).start_ns) == ("running", 123)
    status.end()
    assert status.beat(beat).phase == "ending"
    status.abort("no data")
    assert (status.beat(beat).phase, status.beat(beat).reason) == ("aborted", "no data")


def test_live_totals_count_each_sample_once_though_edges_count_too() -> None:
    status = RunStatus(devices=["bed-0", "bed-1"], edges=["ward"])
    status.beat(Heartbeat(["bed-0"], ready=True, drained=False, totals={"w": Tally(scheduled=5, decided=4)}))
    status.beat(Heartbeat(["bed-1"], ready=True, drained=False, totals={"w": Tally(scheduled=3, decided=3)}))
    status.beat(Heartbeat(["ward"], ready=True, drained=False, totals={"w": Tally(decided=7)}))
    totals = status.live().totals["w"]
    assert (totals.scheduled, totals.decided) == (8, 7)


def test_nobody_waits_for_the_dead() -> None:
    async def course() -> None:
        status = RunStatus(devices=["bed-0", "bed-1"], edges=["ward"])
        status.beat(Heartbeat(["bed-0"], ready=True, drained=True))
        waiting = asyncio.create_task(status.all_drained())
        await asyncio.sleep(0)
        assert not waiting.done()
        status.died(["bed-1"])
        await asyncio.wait_for(waiting, 5.0)

    asyncio.run(course())


def test_who_is_not_ready_says_what_it_waits_for() -> None:
    status = RunStatus(["bed-0", "bed-1"], ["ward"])
    status.beat(Heartbeat(["bed-0", "bed-1"], ready=False, drained=False, waits="no clock"))
    assert status.not_ready() == ["bed-0 (no clock)", "bed-1 (no clock)", "ward"]
    status.beat(Heartbeat(["bed-0"], ready=True, drained=False))
    assert status.not_ready() == ["bed-1 (no clock)", "ward"]


def test_a_model_is_rolled_out_when_the_last_that_decides_has_it() -> None:
    def beat(node: str, **in_use: str) -> str:
        status.beat(Heartbeat([node], ready=True, drained=False, in_use=in_use))
        return status.live().rollouts["w"]

    status = RunStatus(devices=["bed-0"], edges=["ward-0", "ward-1", "ward-2"])
    for node in ("ward-0", "ward-1", "ward-2"):
        status.beat(Heartbeat([node], ready=True, drained=False, in_use={"w": "old", "other": "new"}))
    status.roll_out("w", "new")
    assert status.live().rollouts["w"] == "rolling out: 0 of 3 decide with it"
    assert beat("ward-0", w="new") == "rolling out: 1 of 3 decide with it"
    status.died(["ward-2"])
    assert beat("bed-0") == "rolling out: 1 of 2 decide with it"
    assert status.live().rolled_out == {}
    assert beat("ward-1", w="new") == "rolled out"
    assert beat("ward-1", w="new") == "rolled out"
    assert status.live().rolled_out == {"w": 1}


def test_what_the_cloud_alone_decides_is_rolled_out_at_once() -> None:
    status = RunStatus(devices=["bed-0"], edges=["ward"])
    status.beat(Heartbeat(["ward"], ready=True, drained=False))
    status.roll_out("w", "new")
    assert status.live().rollouts["w"] == "rolled out"


def test_the_longest_round_trip_between_machines_is_kept() -> None:
    status = RunStatus(devices=["bed-0"], edges=["ward"])
    for node, round_trip_s in (("ward", 0.3), ("bed-0", 0.8), ("ward", 0.5)):
        status.beat(Heartbeat([node], ready=True, drained=False, round_trip_s=round_trip_s))
    assert status.round_trip_s == 0.8


def test_the_last_lines_for_people_are_kept_and_all_are_counted() -> None:
    status = RunStatus(devices=["bed-0"], edges=["ward"])
    for number in range(25):
        status.note(f"round {number}")
    live = status.live()
    assert (live.noted, live.notes) == (25, [f"round {number}" for number in range(5, 25)])


def test_who_waits_for_the_start_hears_of_it_at_once_and_else_after_its_patience() -> None:
    async def waited() -> tuple[float, float]:
        status = RunStatus(devices=["bed-0"], edges=["ward"])
        began_s = now_s()
        await status.decided(0.05)
        in_vain_s = now_s() - began_s
        asyncio.get_running_loop().call_later(0.01, status.start, 5)
        began_s = now_s()
        await status.decided(30.0)
        assert status.now == RunState("running", 5)
        return in_vain_s, now_s() - began_s

    in_vain_s, heard_s = asyncio.run(waited())
    assert in_vain_s >= 0.05
    assert heard_s < 10.0
