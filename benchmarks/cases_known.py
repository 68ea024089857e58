"""Cases that people met: how each input of a folder of them is tried. What each gave is told by who found it.

The folder has `data/`, `models/`, `broker/`, `topologies/`, `yaml/` and `flower/`, with what `inputs` of the cases say.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.case_runs import Case, Place, Result, lacks_modes
from edgebench.clock import now_s, sleep_s
from edgebench.executors import disks
from tests.tasks.leftovers import strew

_FAKE = "topologies/fake.yaml"
_ANYBODY = "workloads.anybody"
_BROKER_PATIENCE_S = 30.0
_FOUND_FIRST = "one line before anything starts"


def _set(*changes: str) -> tuple[str, ...]:
    return tuple(word for change in changes for word in ("--set", change))


def _run_of(task: str, data: str) -> tuple[str, ...]:
    """The stream of a data set, without training."""
    return ("run", _FAKE, *_set(f"{_ANYBODY}.task={task}"), "--data", data)


def _train(task: str, data: str) -> tuple[str, ...]:
    return ("train", task, "--data", data, "--seeds", "1", "--size", "light")


# What is lacking on a machine.


def lacks(*programs: str) -> str | None:
    """Which of these programs this machine lacks; None where it has all."""
    found = [program for program in programs if _program(program) is None]
    return f"no {found[0]} on this machine" if found else None


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")


def _lacks_locales() -> str | None:
    if not Path("/usr/share/i18n/charmaps").is_dir():
        return "no character maps on this machine, of which the locale is made"
    return lacks("localedef")


def _lacks_files() -> str | None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if hard >= 4_096 else f"the hard limit of open files is {hard} here"


# What is made of the inputs.


def _systems_leftovers(place: Place) -> None:
    strew(place.folder / "data/lfw-sklearn")


def _leftovers_of_mimic(place: Place) -> None:
    _mended_mimic(place)
    strew(place.folder / "data/mimic-nan")


def _mended_mimic(place: Place) -> None:
    for file in (place.folder / "data/mimic-nan").rglob("*.csv"):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"nan", b"9.1"))


def _closed(place: Place) -> None:
    place.by_modes = True
    (place.folder / "data/mimic-latin1/in-hospital-mortality/train").chmod(0)


def _without(file: str, place: Place) -> None:
    (place.folder / file).unlink()


def _locale(place: Place) -> None:
    """Made for the case: hardly a machine has it. The folder's name has an umlaut."""
    made = place.folder / ".locales"
    made.mkdir()
    name = "en_US.ISO-8859-1"
    subprocess.run(["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(made / name)], check=True, capture_output=True)
    place.environment |= {"LOCPATH": str(made), "LC_ALL": name, "PYTHONUTF8": "", "PYTHONIOENCODING": ""}
    place.stands = place.folder / "Küche"
    place.stands.mkdir()


def _finished_run(place: Place) -> None:
    _locale(place)
    place.ran("run", f"../{_FAKE}")
    (place.called["RUN"],) = (str(each) for each in (place.stands / "runs").glob("2*"))


def _small_disk(place: Place) -> None:
    disk = place.folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], check=True)
    place.stack.callback(subprocess.run, ["umount", "--lazy", str(disk)], check=True)


def broker(configuration: str, place: Place) -> None:
    """Mosquitto, at a port that is free here."""
    folder = place.folder / "broker"
    if (folder / "acl").exists():
        (folder / "acl").chmod(0o600)
        subprocess.run(
            ["mosquitto_passwd", "-b", "-c", "passwords", "lab", "secret"], cwd=folder, check=True, capture_output=True
        )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    lines = (folder / configuration).read_text("utf-8").splitlines()
    own = [f"listener {port} 127.0.0.1" if line.startswith("listener ") else line for line in lines]
    (folder / "here.conf").write_text("\n".join([*own, *(["user root"] if os.geteuid() == 0 else []), ""]), "utf-8")
    program = _program("mosquitto")
    assert program is not None
    process = subprocess.Popen(
        [program, "-c", "here.conf"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    place.stack.callback(process.wait)
    place.stack.callback(process.terminate)
    place.called["PORT"] = str(port)
    until_s = now_s() + _BROKER_PATIENCE_S
    while not _answers(port):
        if process.poll() is not None or now_s() > until_s:
            raise RuntimeError(f"mosquitto does not serve with {configuration}")
        sleep_s(0.05)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


def _app(ends: str, kind: str, place: Place) -> None:
    """A Flower app like those of the folder, whose server only asks for a kind of message, and ends by a line."""
    folder = place.folder / "flower/evalfail/evalfail"
    (folder / "server_app.py").write_text(_SERVER.replace("KIND", kind) + f"    {ends}\n", "utf-8")
    (folder / "client_app.py").write_text(_CLIENT.replace("KIND", f'query("{kind.removeprefix("query.")}")'), "utf-8")


_SERVER = """\
import time
from flwr.app import Message, RecordDict
from flwr.serverapp import ServerApp
app = ServerApp()
@app.main()
def main(grid, context):
    messages = [Message(RecordDict(), node, "KIND") for node in grid.get_node_ids()]
"""
_CLIENT = """\
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp
app = ClientApp()
@app.KIND
def answer(message, context):
    return Message(RecordDict(), reply_to=message)
"""


# What is told of runs.


def _rounds(result: Result) -> Iterator[str]:
    """What a federation came to, with its first two failures."""
    for figures in result["federated"].values():
        for kind, found in figures["kinds"].items():
            yield (
                f"{kind}: {found['rounds']} rounds, {found['good']} of {found['messages']} replies good, "
                f"{found['failures']} failures, {found['unread']} unread"
            )
        rounds = [*figures["rounds"], *figures["other_rounds"]]
        failed = [(each, node, why) for each in rounds for node, why in each["failed"].items()]
        yield from (f"round {each['round']} of {each['kind']}: {node}: {why}" for each, node, why in failed[:2])


def streams(result: Result) -> Iterator[str]:
    """How many of a run's samples were decided."""
    for name, figures in result["workloads"].items():
        yield f"{name}: {figures['decided']:,} of {figures['scheduled']:,} decided"


def _federated(app: str, deadline_s: int) -> tuple[str, ...]:
    federated = f"federated=[{{workload: anybody, app: ../flower/{app}, deadline_s: {deadline_s}}}]"
    return ("run", _FAKE, *_set("nodes.hub.count=2", "nodes.room.count=4", federated))


def _flower(name: str, app: str, deadline_s: int = 20, **more: object) -> Case:
    return Case(
        name=name,
        words=_federated(app, deadline_s),
        inputs=(f"flower/{app}", _FAKE),
        tells=_rounds,
        **more,  # type: ignore[arg-type]
    )


def _model(file: str, says: str, **more: object) -> Case:
    gave = "waited for 120 s; the reason stands in a node's log only"
    words = ("run", "models/m.yaml", *_set(f"{_ANYBODY}.model.source={file}"))
    about: dict[str, object] = {"status": 2, "gave": gave, "right": _FOUND_FIRST, **more}
    return Case(name=f"models/{file}", words=words, inputs=(f"models/{file}",), says=says, **about)  # type: ignore[arg-type]


_UMLAUT = "a locale that is not UTF-8, a folder with an umlaut"
_LATIN_GAVE = "a traceback after a good run; a garbled report"
_NO_ROUNDS = 'failures 0; "0 rounds"; "150 failures"'

KNOWN: tuple[Case, ...] = (
    Case(
        name="data/occupancy-uci/as-zip",
        words=_train("occupancy", "data/occupancy-uci/as-zip"),
        inputs=("data/occupancy-uci/as-zip",),
        gave='"no data for occupancy": asks to rename files',
        status=0,
        says="",
        right="loads as published",
    ),
    Case(
        name="data/occupancy-uci/renamed",
        words=_train("occupancy", "data/occupancy-uci/renamed"),
        inputs=("data/occupancy-uci/renamed",),
        gave='"not numbers in columns … fetch again"',
        status=0,
        says="",
        right="loads",
    ),
    Case(
        name="data/lfw-sklearn/lfw_home",
        words=_run_of("face-recognition", "data/lfw-sklearn/lfw_home"),
        inputs=("data/lfw-sklearn/lfw_home",),
        gave='"missing, and pairs.txt lists it"',
        status=0,
        says="decided",
        tells=streams,
        right="found",
    ),
    Case(
        name="the same with what a Mac and Windows leave in a folder",
        words=_run_of("face-recognition", "data/lfw-sklearn/lfw_home"),
        inputs=("data/lfw-sklearn/lfw_home",),
        prepare=_systems_leftovers,
        gave="stops at `._NAME`",
        status=0,
        says="decided",
        tells=streams,
        right="passed over",
    ),
    Case(
        name="data/mimic-nan",
        words=_train("icu-death", "data/mimic-nan"),
        inputs=("data/mimic-nan",),
        gave="a traceback, status 1",
        says=r"timeseries\.csv, line \d+: Hours is 'nan', no finite number; build ",
        right="file, line and mend",
    ),
    Case(
        name="data/mimic-nan, in a run",
        words=("run", "topologies/room.yaml", *_set(f"{_ANYBODY}.task=icu-death"), "--data", "data/mimic-nan"),
        inputs=("data/mimic-nan", "topologies/room.yaml"),
        gave='"training failed: ValueError"',
        says=r"timeseries\.csv, line \d+: Hours is 'nan', no finite number; build ",
        right="file, line and mend",
    ),
    Case(
        name="data/mimic-latin1",
        words=_train("icu-death", "data/mimic-latin1"),
        inputs=("data/mimic-latin1",),
        gave="a traceback, status 1",
        says=r"timeseries\.csv, line \d+: a byte that is no UTF-8; convert the file",
        right="file, line and mend",
    ),
    Case(
        name="data/mimic-latin1, in a run",
        words=("run", "topologies/room.yaml", *_set(f"{_ANYBODY}.task=icu-death"), "--data", "data/mimic-latin1"),
        inputs=("data/mimic-latin1", "topologies/room.yaml"),
        gave='"training failed: ValueError"',
        says=r"timeseries\.csv, line \d+: a byte that is no UTF-8; convert the file",
        right="file, line and mend",
    ),
    Case(
        name="data/mimic-nan with numbers for its nan, a byte order mark in each file, and leftovers",
        words=_run_of("icu-death", "data/mimic-nan"),
        inputs=("data/mimic-nan",),
        prepare=_leftovers_of_mimic,
        gave="a traceback, status 1",
        status=0,
        says="decided",
        tells=streams,
        right="loads",
    ),
    Case(
        name="data/mimic-latin1 in a folder that may not be read",
        words=_train("icu-death", "data/mimic-latin1"),
        inputs=("data/mimic-latin1",),
        needs=lacks_modes,
        prepare=_closed,
        gave="a traceback, status 1",
        says=r"in-hospital-mortality/train.*(may not|cannot) be read \(Permission denied\)",
        right="the place and the mend",
    ),
    _model("uint8.tflite", r"uint8\.tflite: (takes|gives) uint8 .* where its description says float32"),
    _model("twoout.tflite", r"twoout\.tflite: inputs: 1, outputs: 2; a model has one of each"),
    _model("truncated.tflite", r"truncated\.tflite: (is no LiteRT model|ends the process that reads it)"),
    Case(
        name="models/plain.tflite, which is another task's",
        words=("run", "models/m.yaml", *_set(f"{_ANYBODY}.task=icu-death")),
        inputs=("models/plain.tflite",),
        gave="waited for 120 s; the reason stands in a node's log only",
        says=r"plain\.tflite: is for occupancy, not icu-death",
        right=_FOUND_FIRST,
    ),
    Case(
        name="models/plain.tflite without its .json, validated",
        words=("validate", "models/m.yaml"),
        inputs=("models/plain.tflite",),
        prepare=partial(_without, "models/plain.tflite.json"),
        gave="valid",
        status=0,
        says="decided on 1 edge node",
        right="valid, since the file tells shape and outputs",
    ),
    Case(
        name="models/plain.tflite without its .json, run",
        words=("run", "models/m.yaml"),
        inputs=("models/plain.tflite",),
        prepare=partial(_without, "models/plain.tflite.json"),
        gave="`[Errno 2]`, no mend",
        status=0,
        says="20 of 20 decided",
        tells=streams,
        right="runs as validated",
    ),
    _model(
        "nanweights.tflite",
        r"20 of 20 decisions are not finite numbers \(none may be\)",
        status=1,
        gave="every output NaN, *valid*",
        right="counted, and invalid",
    ),
    Case(
        name="broker/acl.conf",
        words=("run", _FAKE, "--broker", "mqtt://lab:secret@127.0.0.1:PORT"),
        inputs=("broker/acl.conf", "broker/acl", _FAKE),
        needs=partial(lacks, "mosquitto", "mosquitto_passwd"),
        prepare=partial(broker, "acl.conf"),
        gave='two minutes of silence, "not ready 120 s after the models"',
        says="does not pass on anything of a run: its access list forbids it .*acl_file: topic readwrite eb/#",
        right="the access list is named before anything starts",
        within_s=60,
    ),
    Case(
        name="broker/limit.conf",
        words=("run", _FAKE, *_set(f"{_ANYBODY}.task=icu-death"), "--broker", "mqtt://127.0.0.1:PORT"),
        inputs=("broker/limit.conf", _FAKE),
        needs=partial(lacks, "mosquitto"),
        prepare=partial(broker, "limit.conf"),
        gave='"no decision arrived for any"; empty logs',
        says="the broker has a limit of size .*message_size_limit",
        right="the limit is named before anything starts",
        within_s=60,
    ),
    Case(
        name="1,200 devices under a soft limit of 1,024 open files",
        words=("run", _FAKE, *_set("nodes.room.count=1200", f"{_ANYBODY}.load.rate_hz=0.5")),
        inputs=(_FAKE,),
        needs=_lacks_files,
        shell="ulimit -Sn 1024",
        gave="two minutes, then a list of every device's name; 47,000 log lines",
        status=0,
        says=r"1,2\d\d of 1,2\d\d decided",
        tells=streams,
        right="the limit is raised",
        within_s=240,
    ),
    Case(
        name="400 devices where 256 open files are all that there may be",
        words=("run", _FAKE, *_set("nodes.room.count=400")),
        inputs=(_FAKE,),
        shell="ulimit -Sn 256; ulimit -Hn 256",
        gave="two minutes, then a list of every device's name; 47,000 log lines",
        says=r"need [\d,]+ open files in one process, and the hard limit is 256 \(raise it, as root: ulimit -Hn \d+",
        right="the number that is needed, before anything starts",
    ),
    Case(
        name=f"run: {_UMLAUT}",
        words=("run", f"../{_FAKE}"),
        inputs=(_FAKE,),
        needs=_lacks_locales,
        prepare=_locale,
        gave=_LATIN_GAVE,
        status=0,
        says="20 of 20 decided",
        tells=streams,
        right="as elsewhere",
    ),
    Case(
        name=f"report: {_UMLAUT}",
        words=("report", "RUN"),
        inputs=(_FAKE,),
        needs=_lacks_locales,
        prepare=_finished_run,
        gave=_LATIN_GAVE,
        status=0,
        says=r"RUN/report\.html",
        right="as elsewhere",
    ),
    Case(
        name=f"tasks: {_UMLAUT}",
        words=("tasks",),
        needs=_lacks_locales,
        prepare=_locale,
        gave=_LATIN_GAVE,
        status=0,
        says="",
        right="as elsewhere",
    ),
    Case(
        name="--out on a disk that fills up",
        words=(
            *("run", _FAKE, *_set("nodes.room.count=4", f"{_ANYBODY}.load.rate_hz=200"), "--duration-s", "20"),
            *("--out", "disk", "--registry", "registry"),
        ),
        inputs=(_FAKE,),
        needs=disks.why_not,
        prepare=_small_disk,
        gave='"No space left on device", no path, no verdict',
        says=r"the disk at disk is full.*what was recorded is kept; make room, then edgebench report disk/TIME-fake",
        right="which disk, what is kept, how to finish",
    ),
    Case(
        name="yaml/nbsp.yaml",
        words=("validate", "yaml/nbsp.yaml"),
        inputs=("yaml/nbsp.yaml",),
        gave="\"could not find expected ':'\"",
        says=r"nbsp\.yaml: line \d+: a no-break space \(U\+00A0\)",
        right="the character and its line",
    ),
    Case(
        name="a broker's password with a raw #",
        words=("run", _FAKE, "--broker", "mqtt://u:p#w@h"),
        inputs=(_FAKE,),
        gave="a hint about something else",
        says="write %23 for #",
        right="names %23",
    ),
    Case(
        name="a broker's password with a raw ?",
        words=("run", _FAKE, "--broker", "mqtt://u:p?w@h"),
        inputs=(_FAKE,),
        gave="a hint about something else",
        says=r"write %3F for \?",
        right="names %3F",
    ),
    _flower(
        "flower/forkbusy",
        "forkbusy",
        deadline_s=8,
        gave="both devices of the site fail in every round; the run never ends; orphans",
        status=0,
        says=r"train: 4 rounds, 1[2-5] of 16 replies good.*round 1 of train: room-0: ",
        right="the round names it, the next goes on, nothing is left",
    ),
    _flower(
        "flower/evalfail",
        "evalfail",
        gave=_NO_ROUNDS,
        status=0,
        says=r"evaluate: 2 rounds, 4 of 8 replies good, 4 failures, 0 unread.*bad validation data second line",
        right="counted as failures, with the reason",
    ),
    _flower(
        "flower/evalfail with a server that only queries",
        "evalfail",
        prepare=partial(_app, "list(grid.send_and_receive(messages))", "query.count"),
        gave=_NO_ROUNDS,
        status=0,
        says=r"query\.count: 1 rounds, 4 of 4 replies good, 0 failures, 0 unread",
        right="counted as a round of that kind",
    ),
    _flower(
        "flower/evalfail with a server that pushes and never pulls",
        "evalfail",
        prepare=partial(_app, "grid.push_messages(messages); time.sleep(3)", "query.count"),
        gave=_NO_ROUNDS,
        status=0,
        says=r"query\.count: 1 rounds, 4 of 4 replies good, 0 failures, 4 unread",
        right="counted as unread",
    ),
    _flower(
        "flower/clientraise",
        "clientraise",
        gave="`KeyError` without a place",
        status=1,
        says=r"KeyError: 'missing-column' \(.*flower/clientraise/clientraise/client_app\.py, line \d+\)",
        right="file and line, in the verdict",
    ),
    _flower(
        "flower/sysexit",
        "sysexit",
        gave='"ended before its work did"',
        status=0,
        says=r"train: 2 rounds, 8 of 8 replies good.*valid",
        right="an orderly end",
    ),
    _flower(
        "flower/slow",
        "slow",
        deadline_s=12,
        gave="half the clients late in every round",
        status=0,
        says=r"train: 2 rounds, 8 of 8 replies good",
        right="separate devices do not wait for each other",
    ),
    Case(
        name="flower/config-nested.yaml",
        words=("validate", "flower/config-nested.yaml"),
        inputs=("flower/config-nested.yaml", "flower/hang"),
        gave="AssertionError",
        status=0,
        says="federated",
        right="as `flwr run` takes it",
    ),
    Case(
        name="flower/config-nested.yaml, a fraction for a whole number",
        words=("validate", "flower/config-nested.yaml", *_set("federated[0].config.lr=0.8")),
        inputs=("flower/config-nested.yaml", "flower/hang"),
        gave="refused",
        status=0,
        says="federated",
        right="as `flwr run` takes it",
    ),
    Case(
        name="flower/config-nested.yaml, a dotted setting",
        words=("validate", "flower/config-nested.yaml", *_set("federated[0].config.opt.momentum=0.3")),
        inputs=("flower/config-nested.yaml", "flower/hang"),
        gave="no form",
        status=0,
        says="federated",
        right="as `flwr run` takes it",
    ),
)
