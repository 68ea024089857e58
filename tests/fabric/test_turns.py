"""When the pieces of files may set out."""

from __future__ import annotations

import asyncio
import math

import pytest

from edgebench.fabric.shelves import Turn
from edgebench.fabric.turns import Pace, Turns

MUCH = 1 << 30


def pace(rate_mbit_s: float) -> Pace:
    """Of a link that is always the same."""
    return Pace([(-math.inf, rate_mbit_s)])


def here() -> bool:
    return True


def test_a_piece_is_what_a_link_carries_in_8_ms() -> None:
    assert Turns((pace(10.0),)).piece_bytes(0.0) == 10_000
    assert Turns((pace(40.0), pace(10.0))).piece_bytes(0.0) == 10_000
    assert Turns((pace(0.1),)).piece_bytes(0.0) == 1400
    assert Turns((pace(100_000.0),)).piece_bytes(0.0) == 1 << 20


def test_pieces_take_four_fifths_of_the_link() -> None:
    link = pace(10.0)  # 1.25 MB/s, of which they take 1 MB/s
    assert Turns((link,)).begin(5.0, MUCH) == Turn(10_000, 10_000, 0.01)
    assert link.free_s == pytest.approx(5.01)
    assert Turns((link,)).begin(6.0, 4_000).size_bytes == 4_000
    assert link.free_s == pytest.approx(6.004)


def test_who_is_far_away_has_half_a_second_at_once_and_less_where_others_wait() -> None:
    async def sizes() -> list[int]:
        turns = Turns((pace(10.0),))
        taken = await asyncio.gather(*(turns.take(MUCH, here, from_afar=True) for _ in range(3)))
        return [turn.size_bytes for turn in taken if turn is not None]

    assert asyncio.run(sizes()) == [160_000, 250_000, 500_000]  # a third, a half and all of 0.5 s


def test_a_turn_ends_when_the_link_changes() -> None:
    turns = Turns((Pace([(-math.inf, 10.0), (100.0, 2.0), (200.0, None)]),))
    assert turns.begin(99.895, MUCH, from_afar=True) == Turn(100_000, 10_000, 0.01)
    assert turns.begin(100.0, MUCH, from_afar=True) == Turn(100_000, 2_000, 0.01)
    assert turns.begin(200.0, MUCH, from_afar=True) == Turn(1 << 20, 1 << 20, 0.0)


def test_who_has_gone_when_its_turn_comes_takes_nothing_from_the_next() -> None:
    async def taken() -> list[Turn | None]:
        turns = Turns((pace(0.001),))  # a piece takes 14 s
        gone = [turns.take(MUCH, lambda: False) for _ in range(30)]
        return await asyncio.gather(*gone, turns.take(MUCH, here))

    *gone, there = asyncio.run(taken())
    assert gone == [None] * 30
    assert there is not None
    assert there.size_bytes == 1400
    assert there.piece_s == pytest.approx(14.0)


def test_who_waits_for_a_link_of_its_own_is_in_nobodys_way() -> None:
    async def order() -> list[str]:
        uplink, happened = pace(1000.0), []
        far, near = Turns((pace(0.1), uplink)), Turns((uplink,))

        async def take(name: str, turns: Turns) -> None:
            await turns.take(MUCH, here)
            happened.append(name)

        await take("far", far)
        await asyncio.gather(take("far again", far), take("near", near), take("near again", near))
        return happened

    assert asyncio.run(order()) == ["far", "near", "near again", "far again"]
