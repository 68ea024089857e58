"""A federation's connection to the cloud's broker, by which it asks its clients and hears of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cloud.federation import FederationSpec
from edgebench.errors import EdgebenchError
from edgebench.fabric import topics
from edgebench.fabric.endpoints import parse_own_broker_url
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.reactor import Reactor
from edgebench.federated.message_server import Files, MessageServer

_CONNECT_S = 30.0


class FederationMessages:
    """A connection in a thread of its own, and the message server that uses it. files: where contents are fetched."""

    def __init__(self, spec: FederationSpec, files: Files) -> None:
        self._spec = spec
        workload = spec.plan.how.workload
        self._edge_of = {node: spec.parents.get(node, node) for node in spec.plan.asked}
        self._reactor = Reactor()
        self._up = threading.Event()
        self._connection = Connection(
            self._reactor,
            parse_own_broker_url(spec.broker),
            f"{spec.run_id}-{spec.cloud}-fl-{workload}",
            on_message=self._received,
            on_up=self._is_up,
            seals=spec.seals,
        )
        down = {node: topics.fl_down(spec.run_id, workload, edge, node) for node, edge in self._edge_of.items()}
        self._node_of = {topics.fl_up(spec.run_id, workload, edge, node): node for node, edge in self._edge_of.items()}
        # A client can be reached where neither it nor its edge is known to be away.
        self._away: set[str] = set()
        self._status_of = {topics.status(spec.run_id, edge): edge for edge in self._edge_of.values()}
        for node, edge in self._edge_of.items():
            self._status_of[topics.fl_status(spec.run_id, workload, edge, node)] = node
        self._server = MessageServer(
            self._reactor,
            lambda node, notice: self._connection.publish(down[node], notice, qos=0),
            files,
            Path(spec.work_dir),
        )
        hops = (spec.run_id, workload, topics.ANY, topics.ANY)
        self._connection.subscribe([topics.fl_up(*hops)], 0)
        self._connection.subscribe([topics.fl_status(*hops), topics.status(spec.run_id, topics.ANY)], 1)
        self._thread = threading.Thread(target=self._run, name="federation-mqtt", daemon=True)

    @contextmanager
    def connected(self) -> Iterator[MessageServer]:
        """Be connected. Raises EdgebenchError where the broker does not answer."""
        self._thread.start()
        try:
            if not self._up.wait(_CONNECT_S):
                raise EdgebenchError(f"the cloud's broker did not answer in {_CONNECT_S:.0f} s")
            yield self._server
        finally:
            for end in (self._server.close, self._connection.close, self._reactor.stop):
                self._reactor.call_soon_threadsafe(end)
            self._thread.join()

    def _run(self) -> None:
        self._connection.start()
        self._reactor.run()

    def _is_up(self) -> None:
        self._up.set()
        self._server.reconnected()

    def _received(self, topic: str, payload: bytes) -> None:
        node = self._node_of.get(topic)
        if node is not None:
            self._server.feed(node, payload)
            return
        who = self._status_of.get(topic)
        if who is None:
            return
        if payload == b"online":
            self._away.discard(who)
        else:
            self._away.add(who)
        for node, edge in self._edge_of.items():
            if who in (node, edge):
                self._server.client_status(node, online=self._away.isdisjoint((node, edge)))
