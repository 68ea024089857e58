"""What a stranger tries: five loaders and five kinds of files, then arguments, MQTT and HTTP, broken in the same ways.

All inputs are made here. What is right is the same for all: what systems leave behind and a byte order mark are passed
over; else one line that names the file, exit status 2, and no traceback.
"""

from __future__ import annotations

import functools
import gzip
import json
import re
import shutil
import socket
import tempfile
import threading
import wave
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from benchmarks.case_runs import Case, Place, Result, lacks_modes, never
from benchmarks.cases_known import broker, lacks, streams
from edgebench.clock import now_s, sleep_s
from edgebench.inference.spec import TensorSpec
from edgebench.lab.tokens import new_token
from edgebench.topology.profile_files import written
from tests.manifests import manifest_of
from tests.profiles import SLOW
from tests.tasks.leftovers import strew

# Ways to break a file.


class Way(NamedTuple):
    """How a file is broken. is_fine: it is to be read all the same. right: what that comes to."""

    name: str
    breaks: Callable[[Path], None]
    is_fine: bool = False
    right: str = "a line with the file and the mend"


def _rewritten(change: Callable[[bytes], bytes], file: Path) -> None:
    file.write_bytes(change(file.read_bytes()))


def _in_the_middle(text: bytes, content: bytes) -> bytes:
    half = content.find(b"\n", len(content) // 2) + 1
    return content[:half] + text + content[half:]


def _is_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _nothing(_: Path) -> None:
    """Only its folder is touched."""


_DEEP = b"[" * 100_000
_PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256))

_PASSED_OVER = "passed over"
LEFTOVERS = Way("what a Mac and Windows leave beside it", _nothing, True, _PASSED_OVER)
BOM = Way("a byte order mark", partial(_rewritten, lambda content: b"\xef\xbb\xbf" + content), True, _PASSED_OVER)
LATIN1 = Way("a byte that is no UTF-8", partial(_rewritten, partial(_in_the_middle, b"caf\xe9\n")))
NO_TEXT = Way(LATIN1.name, partial(_rewritten, lambda content: re.sub(rb'(:\s*")', b"\\1caf\xe9", content, count=1)))
EMPTY = Way("empty", partial(_rewritten, lambda _: b""))
HALF = Way("cut off", partial(_rewritten, lambda content: content[: len(content) * 2 // 5]))
DAMAGED = Way(
    "200 bytes overwritten",
    partial(
        _rewritten, lambda content: content[: len(content) // 3] + b"\xff" * 200 + content[len(content) // 3 + 200 :]
    ),
)
OTHER = Way("a picture in its place", partial(_rewritten, lambda _: _PICTURE))
TEXT = Way("a text in its place", partial(_rewritten, lambda _: b"not what it should be\n"))
FOLDER = Way("a folder in its place", _is_a_folder)
CLOSED = Way("may not be read", lambda file: file.chmod(0))
DEEP = Way("nested 100,000 deep", partial(_rewritten, lambda _: _DEEP))
DEEP_FIELD = Way(
    "a field nested 100,000 deep",
    partial(_rewritten, lambda content: content[:1] + b'"x":' + _DEEP + b"," + content[1:]),
)
HUGE = Way("a file of 70 MB of spaces", partial(_rewritten, lambda content: content + b" " * 70_000_000))
LONG = Way(
    "a cell of 200,000 characters", partial(_rewritten, lambda content: content.rstrip() + b"x" * 200_000 + b"\n")
)


def _number(old: str, new: str) -> Way:
    """A number that is none."""

    def change(content: bytes) -> bytes:
        assert old.encode() in content, old
        return content.replace(old.encode(), new.encode(), 1)

    return Way(f"`{new}` for a number", partial(_rewritten, change))


def _case(name: str, way: Way, file: str, prepare: Callable[[Place], None], words: tuple[str, ...], fine: str) -> Case:
    """One file, in one way."""

    def broken(place: Place) -> None:
        prepare(place)
        way.breaks(place.folder / file)
        if way is LEFTOVERS:
            strew((place.folder / file).parent)
        place.by_modes = way is CLOSED

    return Case(
        name=f"{name}: {way.name}",
        words=words,
        needs=lacks_modes if way is CLOSED else never,
        prepare=broken,
        status=0 if way.is_fine else 2,
        says=fine if way.is_fine else "|".join(map(re.escape, (Path(file).name, f"/{Path(file).parent.name}"))),
        tells=streams,
        right=way.right,
    )


# Five loaders.


def _topology(place: Path, task: str, spec: TensorSpec, outputs: int) -> None:
    """A run of a task's data, which is read before anything starts, since a model is named."""
    content = b'{"latency_s": 0.001}'
    made = manifest_of(content, task=task, input=spec, outputs=outputs, batches=(1, 8))
    (place / "model.fake").write_bytes(content)
    (place / "model.fake.json").write_bytes(msgspec.json.encode(made))
    _write_topology(place, f"task: {task}", "load: {kind: fixed, rate_hz: 5}", "model: {source: model.fake}")


def _write_topology(place: Path, *workload: str, nodes: str = "", more: str = "") -> None:
    lines = "".join(f"    {line}\n" for line in ("source: room", *workload))
    (place / "t.yaml").write_text(
        "schema: 1\nname: strange\nduration_s: 2\nnodes:\n  cloud: {tier: cloud}\n"
        f"  hub: {{tier: edge, parent: cloud{nodes}}}\n  room: {{tier: device, count: 2, parent: hub}}\n"
        f"workloads:\n  anybody:\n{lines}{more}",
        "utf-8",
    )


def _signs(data: Path) -> None:
    """GTSRB as its mirror has it: two classes with nine tracks, and a picture to test on."""
    from PIL import Image

    rows = ["Width,Height,Roi.X1,Roi.Y1,Roi.X2,Roi.Y2,ClassId,Path"]
    names = [f"Train/{label}/{label:05d}_{track:05d}_00000.png" for label in (0, 42) for track in range(9)]
    for name in (*names, "Test/00000.png"):
        file = data / "gtsrb-kaggle" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 60), (200, len(name), 20)).save(file)
    rows += [f"40,60,10,15,29,44,{name.split('/')[1]},{name}" for name in names]
    (data / "gtsrb-kaggle/Train.csv").write_text("\n".join([*rows, ""]), "utf-8")
    (data / "gtsrb-kaggle/Test.csv").write_text(f"{rows[0]}\n40,60,10,15,29,44,42,Test/00000.png\n", "utf-8")


def _actions(data: Path) -> None:
    """MSR-Action3D: two actions of three people."""
    place = data / "msr-action3d"
    place.mkdir(parents=True)
    for action in (1, 2):
        for person in (1, 2, 9):
            joints = [f"0.2 {line / 10:.6f} 2.5 1.0" for line in range(20)]
            (place / f"a{action:02}_s{person:02}_e01_skeleton3D.txt").write_text("\n".join(joints * 11) + "\n", "utf-8")


def _recordings(data: Path) -> None:
    """Recordings of three people, with what they say."""
    place = data / "speech"
    place.mkdir(parents=True)
    rows = ["file,transcript,speaker,split"]
    for name, split in (("a", "train"), ("b", "valid"), ("c", "test")):
        tone = 9_000 * np.sin(np.arange(5_600) * (0.3 + len(rows) / 10))
        with wave.open(str(place / f"{name}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8_000)
            file.writeframes(tone.astype("<i2").tobytes())
        rows.append(f"{name}.wav,light on,{name},{split}")
    (place / "transcripts.csv").write_text("\n".join([*rows, ""]), "utf-8")


def _people(data: Path) -> None:
    """People in the layout of Market-1501: eight to learn from, two to search for."""
    from PIL import Image

    for part, people in (("bounding_box_train", range(1, 9)), ("query", (11, 12)), ("bounding_box_test", (11, 12))):
        for person in people:
            for camera in (1, 2):
                file = data / "pedestrians" / part / f"{person:04d}_c{camera}s1_000451_03.jpg"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (64, 128), (10 * person, 90, 90)).save(file)


def _patients(data: Path) -> None:
    """eICU: sixty people, a third of whom die."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from edgebench.tasks.icu.eicu import CHANNELS

    place = data / "eicu-demo"
    (place / "hourly").mkdir(parents=True)
    stays = range(1_000, 1_060)
    columns = ("patientunitstayid", "hospitalid", "unitdischargestatus", "unitdischargeoffset")
    patients = [",".join([*columns, "hospitaldischargestatus", "hospitaldischargeoffset", "uniquepid"])]
    for stay in stays:
        end = "Expired,1800,Expired,1800" if stay % 3 == 0 else "Alive,5400,Alive,5400"
        patients.append(f"{stay},{60 + stay % 5},{end},00{stay}-1")
    diagnoses = ["diagnosisid,patientunitstayid,diagnosisstring,icd9code"]
    diagnoses += [f'{stay},{stay},x,"428.0, I50.9"' for stay in stays if stay % 2]
    for name, rows in (("patient", patients), ("diagnosis", diagnoses)):
        (place / f"{name}.csv.gz").write_bytes(gzip.compress("\n".join([*rows, ""]).encode()))
    hours = [(stay, hour) for stay in stays for hour in range(30)]
    measured: dict[str, Any] = {each.name: pa.nulls(len(hours), pa.float64()) for each in CHANNELS}
    measured["hr"] = pa.array([60.0 + hour for _, hour in hours])
    keys = {"stay_id": pa.array([stay for stay, _ in hours]), "time": pa.array([3_600 * hour for _, hour in hours])}
    pq.write_table(pa.table({**keys, **measured}), place / "hourly/dyn.parquet")
    about: dict[str, Any] = {"age": 60.0, "sex": "Male", "height": 170.0, "weight": 80.0}
    static = {"stay_id": list(stays), **{name: [value] * len(stays) for name, value in about.items()}}
    pq.write_table(pa.table(static), place / "hourly/sta.parquet")


def _hours_from(file: Path, hour: int) -> None:
    """The table of hours with all of a stay at one hour."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(file)
    time = table["time"].to_pylist()
    time[:30] = [3_600 * hour] * 30
    at = table.schema.get_field_index("time")
    pq.write_table(table.set_column(at, "time", pa.array(time)), file)


def _vast(file: Path) -> None:
    """A picture that says of itself that it is of 60,000 × 60,000 pixels."""
    import struct
    import zlib

    head = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IEND\xaeB`\x82")


VAST = Way("a picture of 60,000 × 60,000", _vast)
LONG_AGO = Way(
    "a stay with hours before its admission alone",
    partial(_hours_from, hour=-9),
    True,
    "the stay is left out, as one of which nothing is told since then",
)
FAR_AHEAD = Way("an hour far ahead", partial(_hours_from, hour=10**12))
NO_SUCH_NAME = Way(
    "a file's name with a null byte", partial(_rewritten, lambda content: content.replace(b"b.wav", b"b\x00.wav"))
)


class Loader(NamedTuple):
    """A task whose data is made. files: what of it is broken, and how."""

    name: str
    task: str
    spec: TensorSpec
    outputs: int
    make: Callable[[Path], None]
    files: dict[str, tuple[Way, ...]]


LOADERS = (
    Loader(
        "GTSRB",
        "sign-recognition",
        TensorSpec("uint8", (32, 32, 3)),
        43,
        _signs,
        {
            "gtsrb-kaggle/Train.csv": (
                *(LEFTOVERS, BOM, LATIN1, EMPTY, HALF, OTHER, FOLDER, CLOSED, LONG),
                *(_number("40,60,10", "nan,60,10"), _number("40,60,10", "40,60,1e999")),
            ),
            "gtsrb-kaggle/Train/0/00000_00000_00000.png": (EMPTY, HALF, DAMAGED, TEXT, FOLDER, VAST),
        },
    ),
    Loader(
        "MSR-Action3D",
        "action-recognition",
        TensorSpec("uint8", (20, 48, 3)),
        20,
        _actions,
        {
            "msr-action3d/a01_s01_e01_skeleton3D.txt": (
                *(LEFTOVERS, BOM, LATIN1, EMPTY, HALF, OTHER, FOLDER, CLOSED),
                *(_number("2.5", "nan"), _number("2.5", "1e300")),
            )
        },
    ),
    Loader(
        "recordings",
        "speech-recognition",
        TensorSpec("int16", (8_000,)),
        29 * 50,
        _recordings,
        {
            "speech/transcripts.csv": (
                *(LEFTOVERS, BOM, LATIN1, EMPTY, HALF, OTHER, FOLDER, CLOSED, LONG, NO_SUCH_NAME),
            ),
            "speech/b.wav": (EMPTY, HALF._replace(is_fine=True, right="read as far as it goes"), TEXT, FOLDER, CLOSED),
        },
    ),
    Loader(
        "Market-1501",
        "person-reid",
        TensorSpec("uint8", (96, 48, 3)),
        64,
        _people,
        {"pedestrians/query/0011_c1s1_000451_03.jpg": (LEFTOVERS, EMPTY, HALF, TEXT, FOLDER, CLOSED, VAST)},
    ),
    Loader(
        "eICU",
        "icu-decompensation",
        TensorSpec("float32", (48, 149)),
        1,
        _patients,
        {
            "eicu-demo/patient.csv.gz": (LEFTOVERS, EMPTY, HALF, OTHER, FOLDER, CLOSED),
            "eicu-demo/hourly/dyn.parquet": (EMPTY, HALF, DAMAGED, OTHER, FOLDER, LONG_AGO, FAR_AHEAD),
        },
    ),
)


def _made(loader: Loader, place: Place) -> None:
    loader.make(place.folder / "data")
    _topology(place.folder, loader.task, loader.spec, loader.outputs)


def _of_loaders() -> Iterator[Case]:
    for loader in LOADERS:
        for file, ways in loader.files.items():
            name = f"{loader.name}, {Path(file).name}"
            prepare = partial(_made, loader)
            for way in ways:
                yield _case(name, way, f"data/{file}", prepare, ("run", "t.yaml", "--data", "data"), "decided")


# Five kinds of files that commands are given.


def _timed(place: Place) -> None:
    (place.folder / "times.txt").write_text("0.1\n0.5\n0.9\n1.5\n", "utf-8")
    _write_topology(place.folder, "task: occupancy", "load: {kind: trace, file: times.txt}", "model: {runtime: fake}")


def _profiled(place: Place) -> None:
    (place.folder / "slow.json").write_bytes(written(SLOW))
    workload = ("task: icu-death", "load: {kind: fixed, rate_hz: 5}", "model: {runtime: fake}")
    _write_topology(place.folder, *workload, nodes=", profile: slow.json")


def _described(place: Place) -> None:
    _topology(place.folder, "occupancy", TensorSpec("float32", (10, 5)), 1)


@functools.cache
def _kept_run() -> Path:
    """A run, made once."""
    import atexit
    from contextlib import ExitStack

    folder = Path(tempfile.mkdtemp(prefix="edgebench-case-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    place = Place(folder, ExitStack(), folder)
    workload = ("task: occupancy", "load: {kind: fixed, rate_hz: 5}", "model: {runtime: fake}")
    _write_topology(folder, *workload)
    place.ran("run", "t.yaml")
    (found,) = (folder / "runs").glob("2*")
    return found


def _finished(place: Place) -> None:
    shutil.copytree(_kept_run(), place.folder / "runs/kept")


_JSON = (BOM, NO_TEXT, EMPTY, HALF, OTHER, DEEP, DEEP_FIELD, FOLDER, CLOSED)


def _of_files() -> Iterator[Case]:
    text = (BOM, LATIN1, EMPTY, OTHER, FOLDER, CLOSED)
    check = ("validate", "t.yaml")
    for way in (*text, _number("0.5", "nan"), _number("0.5", "1e999"), HUGE):
        fine = way._replace(is_fine=True, right=_PASSED_OVER) if way is HUGE else way
        yield _case("times of a load", fine, "times.txt", _timed, check, "decided on")
    for way in (*_JSON, HUGE, _number('"schema": 1', '"schema": NaN')):
        yield _case("a profile", way, "slow.json", _profiled, check, "decided on")
    for way in (*_JSON, _number('"train_s":0.0', '"train_s":NaN')):
        yield _case("a model's description", way, "model.fake.json", _described, check, "decided on")
    for way in (*_JSON, _number('"seed"', '"sead"')):
        yield _case(
            "a run's deployment", way, "runs/kept/deployment.json", _finished, ("report", "runs/kept"), "report.html"
        )
    for way in (EMPTY, HALF, DAMAGED, OTHER, FOLDER, CLOSED):
        yield _case(
            "a run's records", way, "runs/kept/records.parquet", _finished, ("report", "runs/kept"), "report.html"
        )


# Arguments.


def _streamed(place: Place) -> None:
    _write_topology(place.folder, "task: occupancy", "load: {kind: fixed, rate_hz: 5}", "model: {runtime: fake}")


def _argument(name: str, words: tuple[str, ...], says: str) -> Case:
    right = "a line with the argument and the mend"
    return Case(name=f"an argument: {name}", words=words, says=says, prepare=_streamed, right=right)


def _of_arguments() -> Iterator[Case]:
    run = ("run", "t.yaml")
    yield _argument("a duration that is no number", (*run, "--duration-s", "nan"), "--duration-s")
    yield _argument("a seed beyond 64 bits", (*run, "--seed", "9" * 30), "seed")
    yield _argument("a value nested 20,000 deep", (*run, "--set", f"name={'[' * 20_000}"), r"^--set name: ")
    yield _argument("a byte that is no UTF-8", (*run, "--set", "name=caf\udce9"), "--set name")
    yield _argument("a port beyond 65,535", (*run, "--broker", "mqtt://h:99999"), "broker URL")
    yield _argument("a file for a folder", (*run, "--data", "t.yaml"), "--data: t.yaml is not a folder")
    yield _argument("nothing for a folder", (*run, "--data", ""), "nothing stands behind --data")
    yield _argument("a placement that is a device", (*run, "--placement", "/dev/null"), "/dev/null")
    yield _argument("a file's name of 300 characters", ("validate", "x" * 300), "x: File name too long")


# Messages.


def _broken_messages(place: Place) -> None:
    """Once the streams run, publish on every topic of the run what is none of its messages."""
    import paho.mqtt.client as paho
    from paho.mqtt.enums import CallbackAPIVersion

    seen: dict[str, bytes] = {}
    client = paho.Client(CallbackAPIVersion.VERSION2, "stranger")
    client.on_message = lambda _client, _data, message: seen.update({message.topic: bytes(message.payload)})
    client.connect("127.0.0.1", int(place.called["PORT"]))
    client.loop_start()
    client.subscribe("eb/#")
    until_s = now_s() + 60.0
    while not any(topic.endswith("/decision") for topic in seen) and now_s() < until_s:
        sleep_s(0.1)
    sleep_s(1.0)
    for topic, payload in dict(seen).items():
        for broken in _messages(payload):
            client.publish(topic, broken, qos=1).wait_for_publish(10.0)
    client.disconnect()
    client.loop_stop()


def _messages(payload: bytes) -> Iterator[bytes]:
    yield b"\xef\xbb\xbf" + payload
    yield payload[: len(payload) // 2]
    yield b"caf\xe9"
    yield json.dumps({"values": [float("nan")] * 50}).encode()
    yield b'{"values": ' + _DEEP
    yield b"\x91" * 100_000  # as deep, in MessagePack
    yield b'"text"'
    yield _PICTURE
    yield bytes(3_000_000)


def _anonymous(place: Place) -> None:
    (place.folder / "broker").mkdir()
    lines = ("listener 1 127.0.0.1", "allow_anonymous true", "set_tcp_nodelay true", "max_queued_messages 0", "")
    (place.folder / "broker/any.conf").write_text("\n".join(lines), "utf-8")
    broker("any.conf", place)
    _streamed(place)


def _answers_with(answer: bytes, place: Place) -> None:
    """A server that says one thing to whoever connects."""
    server = socket.create_server(("127.0.0.1", 0))
    place.called["PORT"] = str(server.getsockname()[1])
    place.called["TOKEN"] = str(new_token(bytes(32)))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.sendall(answer)

    thread = threading.Thread(target=serve, name="stranger", daemon=True)
    thread.start()
    place.stack.callback(server.close)


def _of_messages() -> Iterator[Case]:
    yield Case(
        name="MQTT: nine broken messages on each topic of a run",
        words=("run", "t.yaml", "--duration-s", "12", "--broker", "mqtt://127.0.0.1:PORT"),
        needs=partial(lacks, "mosquitto"),
        prepare=_anonymous,
        during=_broken_messages,
        status=0,
        says="120 of 120 decided",
        tells=_rejected,
        right="each counted, and no sample harmed",
    )
    for name, answer in (
        ("that hangs up", b""),
        ("of web pages", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        ("that says 100 kB of nothing", bytes(100_000)),
    ):
        yield Case(
            name=f"HTTP: a lab's address, where a server is {name}",
            words=("join", "https://127.0.0.1:PORT", "--token", "TOKEN"),
            prepare=partial(_answers_with, answer),
            says="127.0.0.1:PORT",
            right="a line with the address",
            within_s=60,
        )


def _rejected(result: Result) -> Iterator[str]:
    yield from streams(result)
    for name, figures in result["workloads"].items():
        yield f"{name}: {figures['rejected']} rejected, {figures['plain_json']} plain JSON"


STRANGE: tuple[Case, ...] = (*_of_loaders(), *_of_files(), *_of_arguments(), *_of_messages())
