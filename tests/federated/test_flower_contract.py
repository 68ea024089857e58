"""What the bridge relies on in Flower, and nobody promises: a version that changes it is told at once, by name."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sysconfig
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, Metadata, RecordDict
from flwr.app.message import make_message, remove_content_from_message
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode, SType
from flwr.serverapp import Grid, ServerApp, strategy
from flwr.serverapp.strategy import FedAvg, Strategy
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from edgebench.federated.flower.grid import LocalGrid, identity

PINNED = "1.41."


def test_the_version_is_the_one_that_the_bridge_was_written_for() -> None:
    assert version("flwr").startswith(PINNED), "look at each of these tests, then at the figures of the engines"


def parameters(function: Any) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (
            Metadata,
            """run_id message_id src_node_id dst_node_id reply_to_message_id group_id created_at ttl message_type
            src_task_id dst_task_id""",
        ),
        (make_message, "metadata content error"),
        (Error, "code reason"),
        (Context, "run_id node_id node_config state run_config series_id"),
        (ServerApp.__call__, "grid context"),
        (ClientApp.__call__, "message context"),
        (Run.create_empty, "run_id"),
        (
            Strategy.start,
            "grid initial_arrays num_rounds timeout train_config evaluate_config evaluate_fn",
        ),
        (Strategy.configure_train, "server_round arrays config grid"),
        (Strategy.aggregate_train, "server_round replies"),
        (Strategy.configure_evaluate, "server_round arrays config grid"),
        (Strategy.aggregate_evaluate, "server_round replies"),
        (Grid.create_message, "content message_type dst_node_id group_id ttl"),
        (Grid.push_messages, "messages"),
        (Grid.pull_messages, "message_ids"),
        (Grid.send_and_receive, "messages timeout"),
        (
            strategy.DifferentialPrivacyServerSideFixedClipping,
            "strategy noise_multiplier clipping_norm num_sampled_clients accountant",
        ),
    ],
)
def test_signatures_are_as_they_were(function: Any, expected: str) -> None:
    assert parameters(function) == expected.split()


def test_a_grid_is_still_abstract_in_these_methods_only() -> None:
    assert Grid.__abstractmethods__ == {
        *("set_run", "run", "create_message", "get_node_ids", "push_messages", "pull_messages", "send_and_receive")
    }
    assert Strategy.__abstractmethods__ == {
        *("configure_train", "aggregate_train", "configure_evaluate", "aggregate_evaluate", "summary")
    }


def test_a_process_is_who_three_variables_of_a_class_say() -> None:
    assert {"_task_id", "_run_id", "_node_id"} <= set(vars(TaskIdentity))
    with identity(5, 3):
        with identity(6, 4):
            message = Message(RecordDict(), 7, "train")
        again = Message(RecordDict(), 7, "train")
    assert (message.metadata.run_id, message.metadata.src_node_id, message.metadata.dst_node_id) == (6, 4, 7)
    assert (again.metadata.run_id, again.metadata.src_node_id) == (5, 3)


def test_metadata_can_be_completed_and_is_shared_by_a_message_without_its_content() -> None:
    with identity(5, 3):
        message = Message(RecordDict({"c": ConfigRecord({"x": 1})}), 7, "train")
    bare = remove_content_from_message(message)
    message.metadata.__dict__["_message_id"] = "m"
    message.metadata.__dict__["_src_node_id"] = 9
    assert bare.metadata is message.metadata
    assert (bare.metadata.message_id, bare.metadata.src_node_id, len(bare.content)) == ("m", 9, 0)
    reply = Message(RecordDict(), reply_to=bare)
    reply.metadata.__dict__["_reply_to_message_id"] = "other"
    assert (reply.metadata.reply_to_message_id, reply.metadata.src_node_id) == ("other", 7)


def test_arrays_are_npy_files_in_bytes() -> None:
    array = Array(np.arange(3, dtype=np.float32))
    assert SType.NUMPY == "numpy.ndarray"
    assert (array.dtype, array.shape, array.stype, type(array.data)) == ("float32", (3,), SType.NUMPY, bytes)
    assert array.data[:8] == b"\x93NUMPY\x01\x00"


def test_codes_of_errors_are_there() -> None:
    for name in ("UNKNOWN", "CLIENT_APP_RAISED_EXCEPTION", "REPLY_MESSAGE_UNAVAILABLE", "NODE_UNAVAILABLE"):
        assert isinstance(getattr(ErrorCode, name), int)


def test_a_server_app_with_the_deprecated_strategies_can_be_told() -> None:
    app = ServerApp()
    assert app._main is None
    app.main()(lambda grid, context: None)
    assert app._main is not None


class Drawing(LocalGrid):
    """Puts down what a strategy does with its grid, and with the process's chance."""

    def __init__(self) -> None:
        super().__init__([], run_id=1)
        self._nodes = [1, 2, 3, 4]
        self.done: list[str] = []
        self.cohorts: list[list[int]] = []

    def get_node_ids(self) -> list[int]:
        self.done.append("nodes")
        from edgebench.seeds import seed_everything

        seed_everything(1)
        return super().get_node_ids()

    def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> list[Message]:
        self.done.append("exchange")
        self.cohorts.append([message.metadata.dst_node_id for message in messages])
        return []


def test_a_strategy_asks_for_nodes_just_before_it_draws_and_evaluates_first_and_last() -> None:
    grid = Drawing()
    with identity(1, 0):
        FedAvg(fraction_train=0.5, fraction_evaluate=0.0).start(
            grid,
            ArrayRecord([np.zeros(1)]),
            num_rounds=2,
            evaluate_fn=lambda number, _arrays: grid.done.append(f"evaluate {number}"),
        )
    a_round = ["nodes", "nodes", "exchange", "exchange"]
    assert grid.done == ["evaluate 0", *a_round, "evaluate 1", *a_round, "evaluate 2"]
    assert grid.cohorts[0] == grid.cohorts[2]  # the same seed, the same cohort
    assert grid.cohorts[1] == []


def test_of_all_strategies_these_average_as_fedavg_does() -> None:
    # Flower's accountant takes no other.
    same = [
        name
        for name in strategy.__all__
        if issubclass(made := getattr(strategy, name), FedAvg) and made.aggregate_train is FedAvg.aggregate_train
    ]
    assert same == ["FedAvg", "FedProx"]


@pytest.mark.parametrize(
    ("program", "options"),
    [
        (
            "flower-superlink",
            """--host --port --ssl-ca-certfile --ssl-certfile --ssl-keyfile --enable-supernode-auth
            --disable-runtime-dependency-installation""",
        ),
        (
            "flower-supernode",
            """--superlink --root-certificates --auth-supernode-private-key --host --port --ssl-ca-certfile
            --ssl-certfile --ssl-keyfile --node-config""",
        ),
    ],
)
def test_programs_have_the_options_that_they_are_given(program: str, options: str) -> None:
    command = [str(Path(sysconfig.get_path("scripts")) / program), "--help"]
    done = subprocess.run(command, capture_output=True, check=True)
    missing = [option for option in options.split() if option not in done.stdout.decode()]
    assert missing == []


@pytest.mark.parametrize(
    "name",
    [
        "flwr.proto.node_pb2:NodeInfo",
        "flwr.app.constants:DEFAULT_TTL",
        "flwr.serverapp.exception:AggregationError",
        "flwr.serverapp.exception:InconsistentMessageReplies",
        "flwr.supercore.privacy_accounting:PrivacyConfig",
        "flwr.supercore.privacy_accounting.rdp_accountant:RdpAccountant",
    ],
)
def test_names_are_where_they_were(name: str) -> None:
    module, _, attribute = name.partition(":")
    assert hasattr(importlib.import_module(module), attribute)
