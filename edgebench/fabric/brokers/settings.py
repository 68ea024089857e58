"""What a broker is told, whatever its kind."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edgebench.fabric.tls import Trust
from edgebench.topology.model import Durability

LOOPBACK = "127.0.0.1"
MAX_PAYLOAD_BYTES = 64 * 1024 * 1024
"""Far above what a run sends; whoever sends more is cut off."""


@dataclass(frozen=True)
class Permission:
    """What somebody may do at a broker: topic filters of MQTT."""

    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()


@dataclass(frozen=True)
class BrokerUser:
    """Who may connect, and what for. password: drawn at random, at least 128 bits."""

    name: str
    password: str = field(repr=False)
    may: Permission


@dataclass(frozen=True)
class BrokerSettings:
    """One broker of a run.

    directory: its own, made and readable by its owner alone. host: the IP address that it listens at. port: 0 for any
    that is free. tls: what it shows to who connects; None: it listens on loopback, and in plain text. users: who may
    connect; without any, on loopback, nobody is asked. mutual: who connects has to show a certificate of the same
    authority, too. durability: what of it survives what, as far as it can be told so.
    """

    name: str
    directory: Path
    host: str = LOOPBACK
    port: int = 0
    tls: Trust | None = None
    users: tuple[BrokerUser, ...] = ()
    mutual: bool = False
    durability: Durability = "none"
