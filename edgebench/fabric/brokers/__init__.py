"""The MQTT brokers that a run starts for itself: Mosquitto where it is installed, else nats-server from its wheel.

with make_broker(BrokerSettings("site", directory), "auto") as broker:
    connect(broker.url)
"""

from __future__ import annotations

from edgebench.fabric.brokers.choice import make_broker
from edgebench.fabric.brokers.settings import BrokerSettings, BrokerUser

__all__ = ["BrokerSettings", "BrokerUser", "make_broker"]
