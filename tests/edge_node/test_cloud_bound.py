"""Work for the cloud over a real broker that is away for a while: kept within a bound, and delivered in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from edge_node.cloud_bound import CloudBound, Resend
from edgebench.clock import now_s
from edgebench.core.samples import SampleKey
from edgebench.core.tallies import Tally
from edgebench.fabric.brokers import BrokerSettings, make_broker
from edgebench.fabric.endpoints import parse_broker_url
from edgebench.fabric.in_flight import Delivery
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.reactor import Reactor
from edgebench.topology.model import Durability, Store
from tests.core.ward import plan

TOPIC = "eb/r/ward/w/forward"
BODY_BYTES = 100_000


class Site:
    """An edge's way to a cloud that only listens."""

    def __init__(self, folder: Path) -> None:
        self.reactor = Reactor()
        self.broker = make_broker(BrokerSettings("cloud", folder / "broker")).start()
        self.heard: list[int] = []
        self.tally = Tally()
        self.dropped: list[int] = []
        self._folder = folder
        self._ups: list[str] = []
        self._bound: CloudBound | None = None
        self.uplink = self._connection("edge", lambda _topic, _payload: None)
        self._cloud = self._connection("cloud", lambda _topic, body: self.heard.append(int.from_bytes(body[:4], "big")))
        self._cloud.subscribe([TOPIC], 1)
        for connection in (self._cloud, self.uplink):
            connection.start()
        self.turn_until(lambda: len(self._ups) == 2)

    def _connection(self, name: str, on_message: Callable[[str, bytes], None]) -> Connection:
        url = parse_broker_url(self.broker.url)
        ups = partial(self._ups.append, name)
        return Connection(self.reactor, url, name, on_message=on_message, on_up=ups, on_room=self._has_room)

    def _has_room(self) -> None:
        if self._bound is not None:
            self._bound.uplink_has_room()

    def bound(
        self, durability: Durability = "none", store: Store | None = None, resend: Resend | None = None
    ) -> CloudBound:
        self._bound = CloudBound(
            self.reactor,
            self.uplink,
            TOPIC,
            plan(store=store or Store()),
            self.tally,
            self._folder / "forwards",
            durability,
            lambda key: self.dropped.append(key.seq),
            resend,
        )
        return self._bound

    def send(self, bound: CloudBound, seqs: range) -> None:
        for seq in seqs:
            bound.send(SampleKey("bed", 0, seq), seq.to_bytes(4, "big") + bytes(BODY_BYTES))

    def cut(self) -> None:
        """The edge has no uplink, until `mend`. The broker's port is nobody else's meanwhile."""
        self.broker.process.end()
        self.turn_until(lambda: not self.uplink.connected)

    def mend(self, bound: CloudBound) -> None:
        self._ups.clear()
        self.broker.launch_again()
        self.broker.until_up()
        self.turn_until(lambda: len(self._ups) == 2)
        bound.uplink_is_up()

    def send_and_turn(self, bound: CloudBound, seqs: range) -> None:
        for seq in seqs:
            self.send(bound, range(seq, seq + 1))
            self.reactor.call_later(0.0, lambda: None)
            self.reactor.turn()

    def turn_until(self, happened: Callable[[], bool]) -> None:
        until_s = now_s() + 20.0
        while not happened():
            assert now_s() < until_s, "did not happen"
            self.reactor.call_later(0.01, lambda: None)
            self.reactor.turn()

    def close(self) -> None:
        self.uplink.close()
        self._cloud.close()
        self.reactor.close()
        self.broker.stop()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.close()


def test_what_comes_while_the_uplink_is_down_waits_on_disk_and_goes_on_in_order(site: Site, tmp_path: Path) -> None:
    bound = site.bound()
    site.send(bound, range(3))
    site.turn_until(lambda: len(site.heard) == 3)
    assert (tmp_path / "forwards").stat().st_size == 0  # nobody asked for a promise: nothing is written
    site.cut()
    site.send(bound, range(3, 40))
    site.turn_until(lambda: len(bound.undecided()) == 37)
    assert (tmp_path / "forwards").stat().st_size > 37 * BODY_BYTES
    site.mend(bound)
    site.send(bound, range(40, 60))
    site.turn_until(lambda: len(site.heard) == 60)
    assert site.heard == list(range(60))
    assert (site.tally.forwarded, site.tally.dropped, bound.undecided()) == (60, {}, [])
    bound.close()


@pytest.mark.parametrize(("when_full", "kept"), [("drop-oldest", range(6, 15)), ("drop-newest", range(9))])
def test_what_has_no_room_is_dropped_by_the_stated_policy_and_counted(site: Site, when_full: str, kept: range) -> None:
    bound = site.bound(store=Store(max_mb=1, when_full=when_full))  # type: ignore[arg-type]
    site.cut()
    site.send(bound, range(15))
    site.turn_until(lambda: site.tally.dropped == {"store-full": 6})
    assert [key.seq for key in bound.undecided()] == list(kept)
    assert site.dropped == [seq for seq in range(15) if seq not in kept]
    site.mend(bound)
    site.turn_until(lambda: site.heard == list(kept))
    bound.close()


def test_what_a_silent_uplink_does_not_take_waits_on_disk_within_the_bound_and_goes_on_in_order(site: Site) -> None:
    bound = site.bound(store=Store(max_mb=2))
    site.broker.process.pause()
    sent = 0
    while not site.dropped:  # whatever the system takes first
        assert sent < 3_000
        site.send_and_turn(bound, range(sent, sent + 30))
        sent += 30
    assert site.uplink.connected
    kept = bound.undecided()
    assert 0 < len(kept) < 2_000_000 // BODY_BYTES
    assert kept[-1].seq == sent - 1
    assert site.tally.dropped == {"store-full": len(site.dropped)}
    site.broker.process.resume()
    site.send_and_turn(bound, range(sent, sent + 20))
    site.turn_until(lambda: len(site.heard) == sent + 20 - len(site.dropped))
    assert site.heard == [seq for seq in range(sent + 20) if seq not in site.dropped]
    assert (site.tally.forwarded, bound.undecided()) == (len(site.heard), [])
    bound.close()


def test_what_an_uplink_takes_in_bursts_goes_on_in_order(site: Site) -> None:
    bound = site.bound()
    for begin in range(0, 400, 20):
        site.send(bound, range(begin, begin + 10))
        site.send_and_turn(bound, range(begin + 10, begin + 20))
    site.turn_until(lambda: len(site.heard) == 400)
    assert site.heard == list(range(400))
    assert (site.tally.forwarded, site.tally.dropped, bound.undecided()) == (400, {}, [])
    bound.close()


def test_where_it_is_promised_work_is_kept_until_the_cloud_has_answered_and_sent_again_when_it_asks(
    site: Site,
) -> None:
    bound = site.bound("process")
    site.send(bound, range(4))
    site.turn_until(lambda: len(site.heard) == 4)
    bound.answered(SampleKey("bed", 0, 1))
    site.turn_until(lambda: all(delivery.acknowledged for delivery in bound._sent.values()))
    for _ in range(2):
        bound.asked(b"0.1")  # for the same reason, once
    site.turn_until(lambda: len(site.heard) == 7)
    assert site.heard == [0, 1, 2, 3, 0, 2, 3]
    bound.close()
    next_life = site.bound("process")
    next_life.uplink_is_up()
    site.turn_until(lambda: len(site.heard) == 10)
    assert site.heard[7:] == [0, 2, 3]
    assert [key.seq for key in next_life.undecided()] == [0, 2, 3]
    next_life.close()


def test_what_finds_too_much_under_way_takes_the_time_of_being_sent_again_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    took: list[int] = []
    publish, refusals = site.uplink.publish_followed, iter([True, True, True, False, True])

    def resend(size_bytes: int, then: Callable[[], None]) -> None:
        took.append(size_bytes)
        site.reactor.call_later(0.0, then)

    def publish_if_room(topic: str, body: bytes) -> Delivery | None:
        return None if next(refusals, False) else publish(topic, body)

    bound = site.bound("process", resend=resend)
    site.send(bound, range(2))
    site.turn_until(lambda: len(site.heard) == 2)
    site.turn_until(lambda: all(delivery.acknowledged for delivery in bound._sent.values()))
    monkeypatch.setattr(site.uplink, "publish_followed", publish_if_room)
    bound.asked(b"0.1")
    site.turn_until(lambda: len(site.heard) == 4)
    assert site.heard == [0, 1, 0, 1]
    assert took == [BODY_BYTES + 4] * 2
    bound.close()
