"""Flower's messages as parcels, and back."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode

from edgebench.federated.content import Array, Arrays, Config, ContentError, Head, Metrics, Parcel, pack, unpack
from edgebench.federated.flower.grid import identity
from edgebench.federated.flower.messages import to_content, to_message, to_parcel, to_records


def there_and_back(records: RecordDict) -> Any:
    head = Head(message_id="1", kind="train")
    return to_records(unpack(b"".join(pack(head, to_content(records)))).content)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.array(7.5),
        np.zeros((0, 4), np.int64),
        np.array([True, False]),
        np.array([1 + 2j]),
        np.array(["a", "bc"]),
        np.array(["2026-11-01"], dtype="datetime64[D]"),
        np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
        np.arange(3, dtype=">i4"),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    ],
    ids=lambda array: f"{array.dtype}{list(array.shape)}",
)
def test_arrays_come_back_as_they_were(array: np.ndarray[Any, Any]) -> None:
    back = there_and_back(RecordDict({"arrays": ArrayRecord({"w": FlowerArray(array)})}))["arrays"]["w"]
    assert (back.dtype, back.shape, back.stype) == (str(array.dtype), array.shape, "numpy.ndarray")
    np.testing.assert_array_equal(back.numpy(), array)
    assert back.numpy().flags.writeable


def test_raw_data_is_not_copied_on_its_way_out() -> None:
    array = FlowerArray(np.arange(4, dtype=np.float32))
    content = to_content(RecordDict({"arrays": ArrayRecord({"w": array})}))["arrays"]
    assert isinstance(content, Arrays)
    data = content.items["w"].data
    assert isinstance(data, memoryview)
    assert data.obj is array.data
    assert content.items["w"].kind == "raw"


def test_metrics_settings_and_foreign_arrays_come_back_as_they_were() -> None:
    records = RecordDict(
        {
            "metrics": MetricRecord({"n": 3, "loss": np.float64(0.25), "many": [1, 2], "curve": [0.5]}),
            "config": ConfigRecord({"b": True, "i": -1, "f": 1.0, "s": "x", "raw": b"\0\1", "l": ["a"], "e": []}),
            "arrays": ArrayRecord({"own": FlowerArray("bfloat16", (2,), "my.format", b"abc")}),
            "empty": ArrayRecord(),
        }
    )
    back = there_and_back(records)
    assert list(back) == list(records)
    assert dict(back["metrics"]) == {"n": 3, "loss": 0.25, "many": [1, 2], "curve": [0.5]}
    assert dict(back["config"]) == dict(records["config"])
    assert back["config"]["b"] is True
    assert type(back["metrics"]["loss"]) is float
    own = back["arrays"]["own"]
    assert (own.dtype, own.shape, own.stype, own.data) == ("bfloat16", (2,), "my.format", b"abc")
    assert len(back["empty"]) == 0


def test_a_request_keeps_what_it_says_of_itself() -> None:
    with identity(77, 0):
        message = Message(RecordDict(), 5, "query.who", ttl=12.5, group_id="r3")
    message.metadata.__dict__["_message_id"] = "m1"
    about = to_message(to_parcel(message), run_id=77, src=0, dst=5).metadata
    for name in ("run_id", "message_id", "src_node_id", "dst_node_id", "group_id", "ttl", "created_at", "message_type"):
        assert getattr(about, name) == getattr(message.metadata, name), name
    assert about.reply_to_message_id == ""


def test_a_reply_names_its_request_and_an_error_keeps_code_and_reason() -> None:
    with identity(77, 0):
        request = Message(RecordDict(), 5, "train")
    request.metadata.__dict__["_message_id"] = "m1"
    received = to_message(to_parcel(request), run_id=77, src=0, dst=5)
    reply = Message(Error(ErrorCode.MOD_FAILED_PRECONDITION, "no norm"), reply_to=received)
    back = to_message(to_parcel(reply), run_id=77, src=5, dst=0)
    assert back.metadata.reply_to_message_id == "m1"
    assert (back.metadata.src_node_id, back.metadata.dst_node_id) == (5, 0)
    assert back.error == Error(ErrorCode.MOD_FAILED_PRECONDITION, "no norm")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (Arrays({"w": Array("object", (1,), b"\0" * 8)}), "not raw data"),
        (Arrays({"w": Array("float32", (3,), b"\0" * 8)}), "in 8 bytes"),
        (Arrays({"w": Array("float32", (-1, -2), b"\0" * 8)}), "not raw data"),
        (Arrays({"w": Array("float99", (1,), b"\0" * 8)}), "no dtype"),
        (Arrays({"w": Array("float32", (1,), b"rubbish", "numpy.ndarray")}), "not an array"),
        (Config({"a": {"deep": 1}}), "cannot|can hold"),
        (Config({"a": None}), "can hold"),
        (Metrics({"a": [1, 2.0]}), "can hold"),
    ],
)
def test_content_that_flower_could_not_use_is_refused(record: Arrays | Metrics | Config, reason: str) -> None:
    with pytest.raises(ContentError, match=reason):
        to_records({"r": record})


def test_pickled_arrays_are_refused() -> None:
    file = io.BytesIO()
    np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ContentError, match="not an array"):
        to_records({"r": Arrays({"w": Array("object", (1,), file.getvalue(), "numpy.ndarray")})})


def test_a_message_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ContentError, match="not a Flower message"):
        to_message(Parcel(Head(message_id="1", kind="destroy"), {}), run_id=1, src=0, dst=1)
