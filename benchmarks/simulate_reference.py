"""What `simulate.py` is held against: the same stations in SimPy and in ciw, on the same arrivals and service times.

Written as each library's own documentation does it: a process a message, a `Resource` a station; for a server that
takes several at once, a process that waits for what comes. Times are whole ns.
"""

from __future__ import annotations

import json
import sys
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def simpy_chain(arrivals: Ints, services: Ints) -> list[float]:
    """Departures [message] from the last of some stations, one behind another. services [station, message]."""
    import simpy

    env = simpy.Environment()
    stations = [simpy.Resource(env) for _ in range(len(services))]
    departures: list[float] = [0] * len(arrivals)
    times = services.T.tolist()

    def message(number: int) -> Any:
        for station, service in zip(stations, times[number], strict=True):
            with station.request() as turn:
                yield turn
                yield env.timeout(service)
        departures[number] = env.now

    def source() -> Any:
        for number, at in enumerate(arrivals.tolist()):
            yield env.timeout(at - env.now)
            env.process(message(number))

    env.process(source())
    env.run()
    return departures


class Tree:
    """Devices with a link each, sites with a model each, uplinks that the devices of a site share, one cloud; and the
    way back, where links have a latency alone.

    sent_ns: when messages set out, ascending; device: of each; link_ns, uplink_ns: what they take on either link;
    site_of: of each device; batch_ns, cloud_ns: what a batch takes whose first message is this one, by its size
    [message, size]; most: in a batch; bound: of a queue, beyond which the oldest goes; latency_ns: of the uplinks;
    turn: in which order those go on that were decided together [message].
    """

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        self.left_site: list[float] = [-1] * len(given["sent_ns"])
        self.arrived: list[float] = [-1] * len(given["sent_ns"])

    def run(self) -> Tree:
        """To the end."""
        import simpy

        given = self.given
        self.env = env = simpy.Environment()
        self.links = [simpy.Resource(env) for _ in given["site_of"]]
        sites = max(given["site_of"]) + 1
        self.uplinks = [simpy.Resource(env) for _ in range(sites)]
        self.site_queues: list[deque[int]] = [deque() for _ in range(sites)]
        self.cloud_queue: deque[int] = deque()
        self.bells = [env.event() for _ in range(sites + 1)]
        for site in range(sites):
            env.process(self._server(self.site_queues[site], site, given["batch_ns"], self._passed_on))
        env.process(self._server(self.cloud_queue, sites, given["cloud_ns"], self._decided))
        env.process(self._source())
        env.run()
        return self

    def _source(self) -> Any:
        for number, at in enumerate(self.given["sent_ns"]):
            yield self.env.timeout(at - self.env.now)
            self.env.process(self._message(number))

    def _message(self, number: int) -> Any:
        given, env = self.given, self.env
        device = given["device"][number]
        with self.links[device].request() as turn:
            yield turn
            yield env.timeout(given["link_ns"][number])
        site = given["site_of"][device]
        self._arrive(self.site_queues[site], site, number)

    def _arrive(self, queue: deque[int], bell: int, number: int) -> None:
        if len(queue) >= self.given["bound"]:
            queue.popleft()
        queue.append(number)
        if not self.bells[bell].triggered:
            self.bells[bell].succeed()

    def _server(self, queue: deque[int], bell: int, service_ns: Any, then: Any) -> Any:
        env, most, turn = self.env, self.given["most"], self.given["turn"]
        while True:
            if not queue:
                self.bells[bell] = env.event()
                yield self.bells[bell]
            yield env.timeout(0)  # after all that comes at this very time
            batch = [queue.popleft() for _ in range(min(most, len(queue)))]
            yield env.timeout(service_ns[batch[0]][len(batch)])
            for number in sorted(batch, key=turn.__getitem__):
                then(number)

    def _passed_on(self, number: int) -> None:
        self.left_site[number] = self.env.now
        self.env.process(self._cross(number))

    def _cross(self, number: int) -> Any:
        given, env = self.given, self.env
        with self.uplinks[given["site_of"][given["device"][number]]].request() as turn:
            yield turn
            yield env.timeout(given["uplink_ns"][number])
        yield env.timeout(given["latency_ns"])
        self._arrive(self.cloud_queue, len(self.bells) - 1, number)

    def _decided(self, number: int) -> None:
        self.env.process(self._return(number))

    def _return(self, number: int) -> Any:
        yield self.env.timeout(self.given["latency_ns"])
        self.arrived[number] = self.env.now


def ciw_chain(gaps_s: list[float], services_s: list[list[float]]) -> float:
    """How long ciw takes for the same chain, s; it draws times from lists, one after the other."""
    import time

    import ciw

    stations = len(services_s)
    network = ciw.create_network(
        arrival_distributions=[ciw.dists.Sequential([*gaps_s, float("inf")]), *([None] * (stations - 1))],
        service_distributions=[ciw.dists.Sequential(of_station) for of_station in services_s],
        routing=[[1.0 if target == source + 1 else 0.0 for target in range(stations)] for source in range(stations)],
        number_of_servers=[1] * stations,
    )
    simulation = ciw.Simulation(network)
    before_s = time.perf_counter()  # noqa: TID251 (it runs where edgebench need not be)
    simulation.simulate_until_max_customers(len(gaps_s), method="Finish")
    return time.perf_counter() - before_s  # noqa: TID251


if __name__ == "__main__":  # by an interpreter that has ciw, which brings a package of the name `tests`
    given = json.load(sys.stdin)
    json.dump(ciw_chain(given["gaps_s"], given["services_s"]), sys.stdout)
