"""What is said of sensors on a machine, and which of it counts."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec
import pytest

from edgebench.errors import EdgebenchError
from edgebench.fabric.sensors import (
    SensorChoice,
    check_can_be_read,
    keep_sensors,
    parse_sensor,
    read_sensors,
    said_anew,
    sensor_of,
)
from edgebench.topology.deployment import NodePlan

BED = NodePlan(name="bed-0", group="bed", tier="device", profile="", parent="ward", children=())


def said(*texts: str) -> list[SensorChoice]:
    return [parse_sensor(text, Path("/here")) for text in texts]


def test_what_is_said_of_fewer_counts_before_what_is_said_of_more() -> None:
    choices = said("bed-0=program:b", "bed=program:a", "bed-0/vitals=program:d", "bed/vitals=program:c")
    assert [sensor_of(choices, BED, workload).source for workload in ("vitals", "ecg")] == ["d", "b"]  # type: ignore[union-attr]
    other = msgspec.structs.replace(BED, name="bed-1")
    assert [sensor_of(choices, other, workload).source for workload in ("vitals", "ecg")] == ["c", "a"]  # type: ignore[union-attr]
    assert sensor_of(choices, msgspec.structs.replace(BED, name="door", group="door"), "vitals") is None


def test_nodes_that_say_the_same_read_the_same_unless_it_names_the_node() -> None:
    shared, own = said("bed=program:read", "bed=program:read {node}")
    other = msgspec.structs.replace(BED, name="bed-1")
    assert sensor_of([shared], BED, "w") == sensor_of([shared], other, "w")
    assert [sensor_of([own], bed, "w").source for bed in (BED, other)] == ["read bed-0", "read bed-1"]  # type: ignore[union-attr]


def test_the_last_word_on_a_node_counts_and_replay_takes_it_back() -> None:
    before = said("bed=program:a", "door=camera:/dev/video0")
    now = said_anew(before, said("bed=program:b", "door=replay"))
    assert [(each.place, each.shown) for each in now] == [("bed", "program:b"), ("door", "replay")]
    door = msgspec.structs.replace(BED, name="door", group="door")
    assert sensor_of(now, door, "w") is None


def test_what_was_said_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "sensors.json"
    assert read_sensors(file) == []
    choices = said("bed=camera:rtsp://me:secret@host/live")
    keep_sensors(file, choices)
    assert read_sensors(file) == choices
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_text("{")
    with pytest.raises(EdgebenchError, match="say --sensor again"):
        read_sensors(file)


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("rtsp://me:secret@host/live", "camera:rtsp://…@host/live"),
        ("rtsp://me:sec@ret@host/live", "camera:rtsp://…@host/live"),
        ("rtsp://me:sec/ret@host/live", "camera:rtsp://…@host/live"),
        ("http://host/live?key=secret&x=1", "camera:http://host/live?…"),
        ("/dev/video0", "camera:/dev/video0"),
    ],
)
def test_what_lets_one_in_is_not_shown(source: str, shown: str) -> None:
    (choice,) = said(f"bed=camera:{source}")
    assert choice.shown == shown


def test_ones_own_sensor_is_told_by_module_and_attribute() -> None:
    (own,) = said("bed/ecg=my.sensors:ecg")
    assert (own.kind, own.source, own.shown, own.place) == ("own", "my.sensors:ecg", "my.sensors:ecg", "bed/ecg")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("bed", "cannot be read"),
        ("=camera:/dev/video0", "cannot be read"),
        ("bed=", "cannot be read"),
        ("bed/=camera:x", "cannot be read"),
        ("bed=webcam", "no sensor 'webcam'"),
        ("bed=webcam:/dev/video0", "no sensor 'webcam'"),
        ("bed=camera", "write camera:/dev/video0"),
        ("bed=program:", "write program:COMMAND"),
        ("bed=replay:x", "write replay"),
        ("bed=pipe:/nowhere/fifo", "mkfifo /nowhere/fifo"),
        ("bed=mqtt:gear.yaml", "there is no /here/gear.yaml"),
    ],
)
def test_what_cannot_be_a_sensor_is_refused_with_its_mend(text: str, why: str) -> None:
    with pytest.raises(EdgebenchError, match=why) as refused:
        parse_sensor(text, Path("/here"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("sensor", "why"),
    [
        ("programm:cat", r"no module 'programm' \(did you mean program:COMMAND\?\)"),
        ("no_such.readings:sense", r"no module 'no_such\.readings' \(it is looked for in .* and where Python looks\)"),
        ("program:no-such-program --fast", "there is no program 'no-such-program'"),
        ('program:cat "all', r"its command cannot be read: No closing quotation \(write program:COMMAND\)"),
        ("serial:file@fast", r"there is no speed of fast baud \(write file@9600, say\)"),
        ("serial:/dev/no-such", "there is no /dev/no-such"),
        ("camera:/dev/no-such?video_size=1x1", "there is no /dev/no-such$"),
        ("camera:no.mp4", "there is no .*/no.mp4"),
        ("pipe:file", r"file is no named pipe \(mkfifo makes one"),
    ],
)
def test_what_cannot_be_read_here_is_told_before_anything_is_opened(tmp_path: Path, sensor: str, why: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EdgebenchError, match=why):
        check_can_be_read([parse_sensor(f"bed={sensor}", tmp_path)])


def test_what_may_be_read_here_is_not_opened_yet(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "mine.py").write_text("raise AssertionError")
    (tmp_path / "read").write_text("#!/bin/sh\n")
    (tmp_path / "read").chmod(0o755)
    texts = [
        "pipe:fifo",
        "mine:sense",
        "program:./read --fast",
        "program:{node}/read",
        "pipe:{node}",
        "json:loads",
        "camera:lavfi:testsrc",
        "camera:rtsp://a/b",
    ]
    check_can_be_read([parse_sensor(f"bed={text}", tmp_path) for text in texts])
