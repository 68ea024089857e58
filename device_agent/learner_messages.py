"""What an agent and the process that learns for its devices tell each other: a line of JSON each, tensors in files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from edgebench.clock import now_ns
from edgebench.federated.content import Content, Head, Parcel, pack, reply_head, write_parcel
from edgebench.topology.settings import Setting

Meta = Mapping[str, int | float | str]
LearnerClient = Callable[[Parcel], Parcel]


class BuiltInSpec(msgspec.Struct, frozen=True, tag="built-in"):
    """Clients of the built-in app learn from the bundle in a folder. runtime: the one that it was made for."""

    bundle_dir: str
    runtime: str


class AppSpec(msgspec.Struct, frozen=True, tag="app"):
    """Clients of a Flower app of the user's own. clients: how many there are in all. node_configs: by node id."""

    path: str
    config: dict[str, Any]
    clients: int
    run_id: int
    node_configs: dict[int, dict[str, Setting]] = {}


class LearnerSpec(msgspec.Struct, frozen=True):
    """What to learn, by workload. seed: of the run. files: a folder for what apps write to where they stand."""

    seed: int
    workloads: dict[str, BuiltInSpec | AppSpec]
    files: str


class LearnJob(msgspec.Struct, frozen=True):
    """A request of the server to a client. node: its Flower node id. content, reply: files."""

    workload: str
    node: int
    head: Head
    content: str
    reply: str
    received_ns: int


class Done(msgspec.Struct, frozen=True):
    """The reply is in its file. error: what it says went wrong."""

    error: str | None


def write_reply(job: LearnJob, content: Content, error: str | None, started_ns: int, meta: Meta | None = None) -> None:
    """Write the reply's file. meta: what else its head says."""
    stamps = {"received_ns": job.received_ns, "started_ns": started_ns, "finished_ns": now_ns()}
    head = reply_head(job.head, error, {**(meta or {}), **stamps})
    write_parcel(Path(job.reply), pack(head, {} if error is not None else content))
