"""The client of a job, as Flower's own engines run it: the clients of the built-in app, or any app's."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path

import msgspec
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.app.message import make_message
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode

from edgebench.clock import now_ns
from edgebench.errors import print_once, reason_of
from edgebench.federated.content import ContentError, Parcel
from edgebench.federated.flower.apps import call_client, client_app, node_config_of
from edgebench.federated.flower.engine_grid import PLACE, RECORD, WHO
from edgebench.federated.flower.engine_job import EngineJob, EngineNodes
from edgebench.federated.flower.messages import SERVER_NODE, between, error_reply, to_message, to_parcel
from edgebench.federated.own_files import stand_in

JOB = "job"
"""The setting that names a job's file, where an engine starts clients in processes of their own."""


class EngineClient(ClientApp):
    """Answers as the node of its place would, on any engine. job: None where the run config names its file."""

    def __init__(self, job: EngineJob | None = None) -> None:
        super().__init__()
        self._job = job

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer a message of the engine's."""
        started_ns = now_ns()
        place = context.node_config[PLACE]
        assert isinstance(place, int)
        if message.metadata.message_type == WHO:
            return _outward(Message(RecordDict({RECORD: ConfigRecord({PLACE: place})}), reply_to=message), message)
        job = self._job or job_at(str(context.run_config[JOB]))
        try:
            reply = _reply(job, message, context, place + 1)
        except (Exception, SystemExit) as error:  # noqa: BLE001  (the reply is where it goes)
            print_once(error)
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason_of(error)), reply_to=message)
        if reply.has_content():
            records = dict(reply.content.items())
            records[RECORD] = ConfigRecord({"started_ns": started_ns, "finished_ns": now_ns()})
            reply.content = RecordDict(records)
        return _outward(reply, message)


@lru_cache(maxsize=1)
def job_at(path: str) -> EngineJob:
    """The job in a file."""
    return msgspec.json.decode(Path(path).read_bytes(), type=EngineJob)


@cache
def _node(nodes: bytes, node_id: int, clients: int) -> Callable[[Parcel], Parcel]:
    made = msgspec.json.decode(nodes, type=EngineNodes)
    module, _, function = made.factory.partition(":")
    node: Callable[[Parcel], Parcel] = getattr(importlib.import_module(module), function)(
        node_id, clients, made.settings
    )
    return node


def _reply(job: EngineJob, message: Message, context: Context, node_id: int) -> Message:
    """What a client of the job answers; its app's state is kept in the context."""
    inward = _inward(message, node_id)
    if job.app is None:
        assert job.nodes is not None
        return _answered(_node(msgspec.json.encode(job.nodes), node_id, job.clients), inward)
    if job.files_dir is not None:
        # They would write over each other's files, and over the server's.
        stand_in(Path(job.files_dir, f"client-{node_id - 1}"))
    own = Context(
        run_id=context.run_id,
        node_id=node_id,
        node_config=node_config_of(node_id, job.clients, job.node_configs.get(node_id, {})),
        state=context.state,
        run_config=dict(job.app.run_config),
    )
    reply = call_client(client_app(job.app), inward, own, seed=job.seed)
    context.state = own.state
    return reply


def _answered(node: Callable[[Parcel], Parcel], message: Message) -> Message:
    about = message.metadata
    reply = node(to_parcel(message, node=about.dst_node_id))
    try:
        return to_message(reply, run_id=about.run_id, src=about.dst_node_id, dst=SERVER_NODE)
    except ContentError as error:
        return error_reply(message, ErrorCode.CLIENT_APP_RAISED_EXCEPTION, str(error))


def _inward(message: Message, node_id: int) -> Message:
    """The message as it would be without an engine: from the server to a node."""
    return make_message(metadata=between(message.metadata, SERVER_NODE, node_id), content=message.content)


def _outward(reply: Message, message: Message) -> Message:
    """The reply as the engine wants it: to the message that it has sent."""
    if reply.has_error():
        return Message(reply.error, reply_to=message)
    return Message(reply.content, reply_to=message)
