"""The state of a run, as heartbeats move it."""

from __future__ import annotations

import asyncio

import pytest

from cloud.run_status import RunStatus
from edgebench.core.tallies import Tally
from edgebench.errors import ModelError
from edgebench.fabric.slices import Heartbeat, Refusal


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
