"""What an agent and the process that learns for its devices tell each other: a line of JSON each, tensors in files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edgebench.clock import now_ns
from edgebench.federated.content import Bytes, Content, Head, Parcel, pack, pack_together, reply_head, write_parcel
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
    """What to learn, by workload. seed: of the run. files: a folder for what apps write to where they stand. states:
    one for what their clients keep between messages, whichever process answers."""

    seed: int
    workloads: dict[str, BuiltInSpec | AppSpec]
    files: str
    states: str


class AskedClient(msgspec.Struct, frozen=True):
    """A request of the server to a client. node: its Flower node id."""

    node: int
    head: Head
    received_ns: int


class LearnJob(msgspec.Struct, frozen=True):
    """Clients that are asked the same. content: its file. replies: a file for what they answer, together."""

    workload: str
    content: str
    replies: str
    asked: tuple[AskedClient, ...]


class Done(msgspec.Struct, frozen=True):
    """The replies are in their file. errors: what some of them say went wrong, by node."""

    errors: dict[int, str]


def reply_of(
    asked: AskedClient, content: Content, error: str | None, started_ns: int, meta: Meta | None = None
) -> list[Bytes]:
    """The reply of a client, packed. meta: what else its head says."""
    stamps = {"received_ns": asked.received_ns, "started_ns": started_ns, "finished_ns": now_ns()}
    head = reply_head(asked.head, error, {**(meta or {}), **stamps})
    return pack(head, {} if error is not None else content)


def write_replies(job: LearnJob, replies: Sequence[Sequence[Bytes]]) -> None:
    """Write the file of a job's replies."""
    write_parcel(Path(job.replies), pack_together(replies))
