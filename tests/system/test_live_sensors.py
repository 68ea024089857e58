"""Sensors that are really there, in whole runs."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from edgebench.fabric.brokers import BrokerSettings, make_broker
from edgebench.fabric.endpoints import parse_broker_url
from edgebench.fabric.mqtt import Connection
from edgebench.fabric.reactor import Reactor
from edgebench.tasks.icu.published import feature_names
from edgebench.topology import load
from tests.conftest import ROOT
from tests.system.running import faults_of, run, streaming

HOME = """\
schema: 1
name: live-home
seed: 1
duration_s: 4
nodes:
  cloud: {tier: cloud}
  hub:   {tier: edge, parent: cloud}
  door:  {tier: device, parent: hub}
  room:  {tier: device, count: 3, parent: hub}
workloads:
  who:     {task: person-reid, source: door, load: {kind: fixed, rate_hz: 5}, model: {runtime: fake}}
  anybody: {task: occupancy, source: room, load: {kind: fixed, rate_hz: 5}, model: {runtime: fake}}
"""

GEAR = """\
broker: BROKER
topic: zigbee2mqtt/{device}
devices: {room-0: office}
features: {Temperature: temperature, Humidity: humidity, Light: illuminance, CO2: co2, HumidityRatio: ratio}
"""

LINES = """\
import itertools, os, time
assert "EDGEBENCH_TOKEN" not in os.environ
print("Temperature,Humidity,Light,CO2,HumidityRatio")
for n in itertools.count():
    print(f"{20 + n % 5},30,400,{600 + n},0.004")
    time.sleep(0.05)
"""

MONITOR = f"""\
import csv, itertools, sys, time
names = {feature_names()!r}
out = csv.writer(sys.stdout)
out.writerow(["bed", *names])
for n in itertools.count():
    out.writerow([sys.argv[1], *((n + i) % 7 for i in range(len(names)))])
    time.sleep(0.05)
"""
"""A bedside monitor, by the names that docs/tasks/intensive-care.md tells."""

WHOLE = """\
import itertools, json, sys, time
count, levels = map(int, sys.argv[1:])
for n in itertools.count():
    print(json.dumps([(n + i) % levels for i in range(count)]))
    time.sleep(0.1)
"""
"""All numbers of a sample in each line."""

CAMERA = "camera:lavfi:testsrc=size=320x240:rate=25"
SHIPPED = {
    "icu-ward": {"bed": "program:PYTHON FOLDER/monitor.py {node}"},
    "surveillance": {"camera": CAMERA, "camera/actions": "program:PYTHON FOLDER/whole.py 2880 256"},
    "smart-home": {
        "door": CAMERA,
        "microphone": "program:PYTHON FOLDER/whole.py 8000 999",
        "room": "mqtt:FOLDER/gear.yaml",
    },
}
"""Of each topology what its devices read, by `--sensor`."""
READ_BY = {
    "icu-ward": {"program": 8 * 3},
    "surveillance": {"camera": 2 * 5, "program": 2},
    "smart-home": {"camera": 1, "program": 2, "mqtt": 4},
}
"""How many streams read which kind."""


@contextmanager
def gear(url: str) -> Iterator[None]:
    """Publishes what Zigbee2MQTT would, twenty times a second."""
    reactor = Reactor()
    connection = Connection(reactor, parse_broker_url(url), "zigbee", on_message=lambda *_: None)
    message = json.dumps(
        {"temperature": 21.5, "humidity": 30, "illuminance": 300, "co2": 640, "ratio": 0.004, "linkquality": 90}
    )

    def publish() -> None:
        connection.publish("zigbee2mqtt/office", message.encode(), qos=0)
        reactor.call_later(0.05, publish)

    connection.start()
    publish()
    thread = threading.Thread(target=reactor.run)
    thread.start()
    try:
        yield
    finally:
        reactor.call_soon_threadsafe(connection.close)
        reactor.call_soon_threadsafe(reactor.stop)
        thread.join()
        reactor.close()


def test_a_camera_a_program_and_gear_are_decided_and_accounted_for_as_any_stream(tmp_path: Path) -> None:
    (tmp_path / "lines.py").write_text(LINES)
    with make_broker(BrokerSettings("house", tmp_path / "house")) as broker, gear(broker.url):
        (tmp_path / "gear.yaml").write_text(GEAR.replace("BROKER", broker.url))
        _, result, run_dir = run(
            tmp_path,
            HOME,
            *("--sensor", f"door={CAMERA}"),
            *("--sensor", f"room=program:{sys.executable} {tmp_path / 'lines.py'}"),
            *("--sensor", f"room-0=mqtt:{tmp_path / 'gear.yaml'}"),
            *("--sensor", "room-2=replay"),
        )
    assert faults_of(result) == []
    who, anybody = result["workloads"]["who"], result["workloads"]["anybody"]
    assert [(each["scheduled"], each["decided"], each["lost"]) for each in (who, anybody)] == [(20, 20, 0), (60, 60, 0)]
    assert [each["age_ms"]["n"] for each in (who, anybody)] == [20, 40]
    assert 0 <= who["age_ms"]["p50"] < 1_000
    assert (who["quality"]["value"], who["quality"]["source"]) == (None, "live sensors")
    assert {name: node["sensors"] for name, node in result["nodes"].items() if node["tier"] == "device"} == {
        "door": {"who": "camera"},
        "room-0": {"anybody": "mqtt"},
        "room-1": {"anybody": "program"},
        "room-2": {},
    }
    rows = pq.read_table(run_dir / "records.parquet").to_pylist()
    live = [row for row in rows if row["node"] != "room-2"]
    assert all(row["label"] is None and row["taken_ns"] <= row["captured_ns"] for row in live)
    assert all(row["label"] is not None and row["taken_ns"] is None for row in rows if row["node"] == "room-2")
    assert not any("BROKER" in path.read_text(errors="replace") for path in run_dir.glob("*.json"))


def test_a_sensor_that_ends_in_mid_run_makes_it_invalid_and_is_told(tmp_path: Path) -> None:
    over = tmp_path / "over"
    goes_on = f"itertools.takewhile(lambda _: not os.path.exists({str(over)!r}), itertools.count())"
    (tmp_path / "lines.py").write_text(LINES.replace("itertools.count()", goes_on))
    home = HOME.replace("count: 3", "count: 1").replace("duration_s: 4", "duration_s: 8")
    sensor = f"room=program:{sys.executable} {tmp_path / 'lines.py'}"
    with streaming(tmp_path, home, "--sensor", sensor, decided=1, device="room-0") as live:
        over.touch()
        status, result = live.end()
    figures = result["workloads"]["anybody"]
    dropped = figures["dropped_by_reason"]["sensor-ended"]
    assert (status, figures["decided"] + dropped) == (1, 40)
    assert figures["decided"] > 0
    assert any("sensor-ended" in reason and "a live sensor has ended" in reason for reason in faults_of(result))
    assert "the program has ended (status 0)" in (live.run_dir / "logs" / "room-0.log").read_text()
    assert result["workloads"]["who"]["decided"] == 40  # the others go on


def test_where_a_sensor_does_not_come_again_with_its_board_the_others_go_on_and_it_is_told(tmp_path: Path) -> None:
    """A program that ends at once when it is started for the second time, as one whose camera is taken."""
    first = tmp_path / "first"
    once = f"import os, sys\nif os.path.exists({str(first)!r}):\n    sys.exit(5)\nopen({str(first)!r}, 'w').close()\n"
    (tmp_path / "lines.py").write_text(once + LINES)
    home = HOME.replace("count: 3", "count: 1").replace("duration_s: 4", "duration_s: 14")
    home = home.replace("source: door", "source: [door, room]")
    home += "faults: [{kind: restart, node: room-0, at_s: 3, for_s: 0.5}]\n"
    _, result, run_dir = run(
        tmp_path, home, "--sensor", f"room/anybody=program:{sys.executable} {tmp_path / 'lines.py'}"
    )
    figures = result["workloads"]["anybody"]
    assert figures["dropped_by_reason"].get("sensor-ended", 0) > 0
    assert any("sensor-ended" in reason for reason in faults_of(result))
    assert "the program has ended (status 5)" in (run_dir / "logs" / "room-0.log").read_text()
    who = result["workloads"]["who"]
    assert who["lost"] <= 1  # which the agent had counted, and not recorded, as it was killed
    assert who["decided"] >= 85  # 70 of the door, and those of the room but for some seconds


def test_a_sensor_that_cannot_be_opened_again_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    over = threading.Event()

    def write() -> None:
        lines = os.open(pipe, os.O_WRONLY)
        pipe.unlink()  # which is open, and cannot be opened again
        while not over.wait(0.05):
            with contextlib.suppress(OSError):  # nobody reads it any more
                os.write(lines, b"20,30,400,600,0.004\n")
        os.close(lines)

    writing = threading.Thread(target=write, daemon=True)
    writing.start()
    home = HOME.replace("count: 3", "count: 1").replace("duration_s: 4", "duration_s: 14")
    home = home.replace("source: door", "source: [door, room]")
    home += "faults: [{kind: restart, node: room-0, at_s: 3, for_s: 0.5}]\n"
    try:
        _, result, run_dir = run(tmp_path, home, "--sensor", f"room-0/anybody=pipe:{pipe}")
    finally:
        over.set()
        writing.join(10.0)
    assert result["workloads"]["anybody"]["dropped_by_reason"].get("sensor-ended", 0) > 0
    assert "what is due is dropped" in (run_dir / "logs" / "room-0.log").read_text()
    assert result["workloads"]["who"]["decided"] >= 85


def test_a_sensor_that_does_not_suit_its_task_ends_the_run_in_its_words(tmp_path: Path) -> None:
    _, result, _ = run(tmp_path, HOME, "--sensor", "room-1=camera:lavfi:testsrc")
    told = "room-1/anybody=camera:lavfi:testsrc: gives pictures, and a sample is float32 [10, 5]"
    assert any(told in reason for reason in faults_of(result))


@pytest.mark.long
@pytest.mark.timeout(700)
@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_topology_runs_on_live_sensors_and_loses_nothing(name: str, tmp_path: Path, mosquitto: Path) -> None:
    file = ROOT / "topologies" / f"{name}.yaml"
    (tmp_path / "monitor.py").write_text(MONITOR)
    (tmp_path / "whole.py").write_text(WHOLE)
    words = ["--duration-s", "10"]
    for workload in load(file).workloads:
        words += ["--set", f"workloads.{workload}.train={{epochs: 1, examples: 300}}"]
        words += ["--set", f"workloads.{workload}.rollout=[]"]  # which takes longer than the streams
    for nodes, sensor in SHIPPED[name].items():
        words += ["--sensor", f"{nodes}={sensor.replace('PYTHON', sys.executable).replace('FOLDER', str(tmp_path))}"]
    with make_broker(BrokerSettings("house", tmp_path / "house"), "mosquitto") as broker, gear(broker.url):
        told = GEAR.replace("BROKER", broker.url).replace("{device}", "+")
        (tmp_path / "gear.yaml").write_text(told)
        _, result, _ = run(tmp_path, file.read_text(), *words)
    assert faults_of(result) == []
    for figures in result["workloads"].values():
        assert figures["scheduled"] > 0
        assert (figures["decided"], figures["lost"]) == (figures["scheduled"], 0)
        assert sum(model["n"] for model in figures["models"]) == figures["decided"] == figures["age_ms"]["n"]
        assert (figures["quality"]["value"], figures["quality"]["source"]) == (None, "live sensors")
    read_by = Counter(kind for node in result["nodes"].values() for kind in node.get("sensors", {}).values())
    assert read_by == READ_BY[name]
