"""Strangers on the broker: plain JSON gets a decision, rubbish is counted, and good samples never suffer."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edgebench.fabric import topics, wire
from edgebench.seeds import rng_for
from tests.fabric.mosquittos import mosquitto_with, password_of
from tests.system.running import SMALL, faults_of, run, streaming

SHAPE = (48, 76)
MEDIUM = SMALL.replace("duration_s: 4", "duration_s: 25")
# On a busy machine ten thousand messages take their time, and all must come while the streams run.
LONG_S, RATE_HZ, DEVICES = 60, 5, 4
LONG = SMALL.replace("duration_s: 4", f"duration_s: {LONG_S}").replace("rate_hz: 10", f"rate_hz: {RATE_HZ}")


@pytest.fixture
def broker(mosquitto: Path, tmp_path: Path) -> Iterator[int]:
    """A Mosquitto with a password, on a port of loopback."""
    login = password_of(tmp_path, "lab", "s3cret")
    with mosquitto_with(mosquitto, tmp_path, login, "max_queued_messages 0", "max_inflight_messages 0") as port:
        yield port


def url(port: int) -> str:
    return f"mqtt://lab:s3cret@127.0.0.1:{port}"


def test_mosquitto_serves_as_the_broker_of_all_tiers(tmp_path: Path, broker: int) -> None:
    _, result, run_dir = run(tmp_path, SMALL, "--broker", url(broker), "--set", "workloads.watch.place.infer=cloud")
    assert faults_of(result) == []
    assert result["workloads"]["watch"]["decided"] == 160
    for path in run_dir.rglob("*"):
        assert path.is_dir() or b"s3cret" not in path.read_bytes(), f"{path} has the password"


@contextmanager
def connected(port: int) -> Iterator[paho.Client]:
    client = paho.Client(CallbackAPIVersion.VERSION2, "stranger")
    client.username_pw_set("lab", "s3cret")
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


@contextmanager
def listening(port: int, topic: str) -> Iterator[queue.Queue[bytes]]:
    """What is published on a topic from now on: the broker has acknowledged the subscription."""
    messages: queue.Queue[bytes] = queue.Queue()
    subscribed = threading.Event()
    with connected(port) as client:
        client.on_message = lambda _client, _data, message: messages.put(bytes(message.payload))
        client.on_subscribe = lambda *_: subscribed.set()
        client.subscribe(topic)
        assert subscribed.wait(30.0)
        yield messages


def test_a_plain_json_sample_from_mosquitto_pub_gets_its_decision(tmp_path: Path, broker: int) -> None:
    login = ["-h", "127.0.0.1", "-p", str(broker), "-u", "lab", "-P", "s3cret"]
    with streaming(tmp_path, MEDIUM, "--broker", url(broker)) as live:
        run_id = live.run_dir.name
        with listening(broker, topics.decision(run_id, "bed-1", "watch")) as messages:
            message = json.dumps({"values": np.zeros(SHAPE).tolist(), "id": "from outside"})
            command = ["mosquitto_pub", *login, "-t", topics.sample(run_id, "bed-1", "watch"), "-s"]
            subprocess.run(command, input=message.encode(), check=True)
            while not (answer := messages.get(timeout=20.0)).startswith(b"{"):
                pass
        decision = json.loads(answer)
        assert decision["id"] == "from outside"
        assert decision["decider"] == "ward-1"
        assert decision["output"] == [0.5]
        _, result = live.end()
    assert faults_of(result) == []
    assert result["workloads"]["watch"]["plain_json"] == 1


def rubbish() -> Iterator[bytes]:
    """10,000 payloads that are no samples, of every kind that there is."""
    rng = rng_for(1, "rubbish")
    good = np.zeros(SHAPE, np.float32)

    def envelope(x: np.ndarray, dtype: str = "float32", shape: tuple[int, ...] = SHAPE) -> bytes:
        return wire.encode(
            wire.Sample(wire.VERSION, 0, 0, 1, 2, 3, dtype, shape, None, np.ascontiguousarray(x).data.cast("B"))
        )

    not_finite = good.copy()
    not_finite[7, 7] = np.nan
    for _ in range(2000):
        yield rng.bytes(int(rng.integers(0, 4000))).replace(b"{", b"\xc1", 1)
        yield envelope(good)[: int(rng.integers(0, 14_000))]
        yield envelope(good.astype(np.float64), "float64") if rng.random() < 0.5 else envelope(good, shape=(76, 48))
        yield envelope(not_finite)
        yield msgspec.json.encode({"values": [1.0, 2.0]})


@pytest.mark.timeout(400)
def test_ten_thousand_malformed_payloads_are_each_counted_and_harm_no_sample(tmp_path: Path, broker: int) -> None:
    with streaming(tmp_path, LONG, "--broker", url(broker)) as live:
        topic = topics.sample(live.run_dir.name, "bed-2", "watch")
        with connected(broker) as client:
            for payload in rubbish():
                last = client.publish(topic, payload, qos=1)
            for _ in range(2):
                last = client.publish(topic, bytes(20_000_000), qos=1)
            last.wait_for_publish(45.0)
            assert last.is_published()
        _, result = live.end()
    figures = result["workloads"]["watch"]
    reasons = figures["rejected_by_reason"]
    assert figures["rejected"] == 10_002
    assert reasons["not-finite"] == 2000
    assert reasons["wrong-dtype"] + reasons["wrong-shape"] == 4000
    assert reasons["too-large"] == 2
    assert sum(reasons.values()) == 10_002
    assert figures["decided"] == figures["scheduled"] == LONG_S * RATE_HZ * DEVICES
    assert figures["lost"] == figures["duplicated"] == figures["reordered"] == 0
    assert faults_of(result) == []
