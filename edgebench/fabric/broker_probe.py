"""Is a broker of the user's there, and does it take the login?"""

from __future__ import annotations

from edgebench.clock import now_s
from edgebench.errors import FabricError
from edgebench.fabric.endpoints import BrokerUrl
from edgebench.fabric.mqtt import REFUSED, Connection
from edgebench.fabric.reactor import Reactor

_CONNECT_S = 5.0


def try_broker(broker: BrokerUrl) -> None:
    """Connect once and say goodbye. Raises FabricError where the broker is not there, or refuses the login."""
    reactor = Reactor()
    failures: list[str] = []
    up: list[bool] = []
    connection = Connection(
        reactor,
        broker,
        "",
        on_message=lambda _topic, _payload: None,
        on_up=lambda: up.append(True),
        on_down=failures.append,
        clean_session=True,
    )
    try:
        connection.start()
        reactor.call_later(_CONNECT_S, lambda: None)
        until_s = now_s() + _CONNECT_S
        while not up and not failures and now_s() < until_s:
            reactor.turn()
    finally:
        connection.close()
        reactor.close()
    if up:
        return
    if not failures:
        raise FabricError(f"{broker.shown}: what answers there is no MQTT broker")
    if failures[0].startswith(REFUSED):
        raise FabricError(f"{broker.shown}: {failures[0]}")
    raise FabricError(f"{broker.shown}: no broker answers there: {failures[0]}")
