"""The state of a run, as heartbeats move it."""

from __future__ import annotations

import asyncio

from cloud.board import Board
from edgebench.fabric.records import Tally
from edgebench.fabric.slices import Heartbeat


def test_a_run_is_ready_when_every_device_and_edge_is() -> None:
    async def course() -> None:
        board = Board(devices=["bed-0", "bed-1"], edges=["ward"])
        waiting = asyncio.create_task(board.all_ready())
        board.beat(Heartbeat(["bed-0", "bed-1"], ready=True, drained=False))
        board.beat(Heartbeat(["ward"], ready=False, drained=False))
        await asyncio.sleep(0)
        assert not waiting.done()
        board.beat(Heartbeat(["ward"], ready=True, drained=False))
        await asyncio.wait_for(waiting, 5.0)

    asyncio.run(course())


def test_only_devices_have_to_drain() -> None:
    async def course() -> None:
        board = Board(devices=["bed-0"], edges=["ward"])
        board.beat(Heartbeat(["bed-0"], ready=True, drained=True))
        await asyncio.wait_for(board.all_drained(), 5.0)

    asyncio.run(course())


def test_a_heartbeat_brings_the_phase_back() -> None:
    board = Board(devices=["bed-0"], edges=["ward"])
    beat = Heartbeat(["bed-0"], ready=True, drained=False)
    assert board.beat(beat).phase == "preparing"
    board.start(123)
    assert (board.beat(beat).phase, board.beat(beat).start_ns) == ("running", 123)
    board.end()
    assert board.beat(beat).phase == "ending"
    board.abort("no data")
    assert (board.beat(beat).phase, board.beat(beat).reason) == ("aborted", "no data")


def test_live_totals_count_each_sample_once_though_edges_count_too() -> None:
    board = Board(devices=["bed-0", "bed-1"], edges=["ward"])
    board.beat(Heartbeat(["bed-0"], ready=True, drained=False, totals={"w": Tally(scheduled=5, decided=4)}))
    board.beat(Heartbeat(["bed-1"], ready=True, drained=False, totals={"w": Tally(scheduled=3, decided=3)}))
    board.beat(Heartbeat(["ward"], ready=True, drained=False, totals={"w": Tally(decided=7)}))
    totals = board.live().totals["w"]
    assert (totals.scheduled, totals.decided) == (8, 7)


def test_nobody_waits_for_the_dead() -> None:
    async def course() -> None:
        board = Board(devices=["bed-0", "bed-1"], edges=["ward"])
        board.beat(Heartbeat(["bed-0"], ready=True, drained=True))
        waiting = asyncio.create_task(board.all_drained())
        await asyncio.sleep(0)
        assert not waiting.done()
        board.died(["bed-1"])
        await asyncio.wait_for(waiting, 5.0)

    asyncio.run(course())
