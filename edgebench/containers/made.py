"""What is made by a container engine, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

IMAGE = "edgebench.image"
"""The label of every image of ours."""
RUN = "edgebench.run"
"""The label of all that a run has made: its id."""
COMMAND = "edgebench.command"
"""The label that says which process made it; see `commands`."""


class Made(NamedTuple):
    """A container, a network or a volume."""

    id: str
    name: str
    labels: Mapping[str, str]


class Network(NamedTuple):
    """gateway: this computer's address there."""

    id: str
    name: str
    gateway: str


class Limits(NamedTuple):
    """What a container is and may. memory_bytes: None for all that there is. health: a shell's condition. environment:
    variables that it is told besides."""

    hostname: str
    home: str
    health: str
    memory_bytes: int | None = None
    user: str = "10001:10001"
    processes: int = 4096
    tmp_bytes: int = 64_000_000
    health_every_s: int = 30
    environment: Mapping[str, str] = {}
