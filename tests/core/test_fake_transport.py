"""Virtual links keep the relay's law."""

from __future__ import annotations

from edgebench.core.fake_transport import FakeLink, VirtualTime
from edgebench.core.links import Lane, Pipe
from tests.core.ward import ms


def test_what_a_cut_finds_under_way_is_lost_and_only_what_arrives_is_counted() -> None:
    time, arrived = VirtualTime(), list[str]()
    lane = Lane(Pipe(None), ms(10.0), 0, iter(()))
    link = FakeLink(time, lane)
    assert link.carry(100, lambda: arrived.append("before"))
    time.run(ms(10.0))
    assert link.carry(30, lambda: arrived.append("under way"))
    time.run(ms(15.0))
    assert lane.bytes == 100
    link.cut()
    assert not link.carry(7, lambda: arrived.append("while it is cut"))
    link.mend()
    assert link.carry(5, lambda: arrived.append("after"))
    time.run()
    assert arrived == ["before", "after"]
    assert (lane.bytes, lane.messages) == (105, 2)
