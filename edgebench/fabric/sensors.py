"""Which sensor a node reads: said on the machine that the node runs on, and kept there; no message chooses it.

`bed=camera:/dev/video0` is of every node of the group `bed`, `bed-0/vitals=…` of one workload of one node. What is said
of fewer counts before what is said of more, and what nobody speaks of is replayed from the task's data.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from edgebench.decoding import from_json
from edgebench.errors import EdgebenchError
from edgebench.fabric.tls import write_private
from edgebench.topology.deployment import NodePlan

if TYPE_CHECKING:
    from edgebench.fabric.gear_file import GearFile

SENSORS_VARIABLE = "EDGEBENCH_SENSORS"
"""The environment of a device agent names the file of its machine's sensors by this, where there are any."""

NODE = "{node}"
"""In what is read: the name of the node, each of which then reads its own."""

LAVFI = "lavfi:"
DEVICES = "/dev/"
_BAUD = 9600

Kind = Literal["camera", "program", "pipe", "serial", "mqtt", "own", "replay"]

_HOW = {
    "camera": "camera:/dev/video0, a file, an address, or lavfi:testsrc",
    "program": "program:COMMAND",
    "pipe": "pipe:FIFO",
    "serial": "serial:/dev/ttyUSB0@115200",
    "mqtt": "mqtt:FILE.yaml",
    "replay": "replay",
}
_FORM = f"NODE[/WORKLOAD]=SENSOR, with one of {'; '.join(_HOW.values())}; or MODULE:ATTRIBUTE of your own"
_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]*"
_SAID = re.compile(rf"(?P<node>{_NAME})(?:/(?P<workload>{_NAME}))?=(?P<sensor>.+)")
_LOGIN = re.compile(r"//.*@")
"""Up to the last @: a password may hold any of them."""
_QUERY = re.compile(r"\?.*")
_OWN = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


class SensorChoice(msgspec.Struct, frozen=True):
    """node: or a group of nodes. workload: None for all. source: what is read, as its kind has it.

    folder: where this was said, against which files are named, and where modules are looked for.
    """

    node: str
    workload: str | None
    kind: Kind
    source: str
    folder: str

    @property
    def place(self) -> str:
        """Which node, and which of its workloads."""
        return self.node if self.workload is None else f"{self.node}/{self.workload}"

    @property
    def shown(self) -> str:
        """For people; without what an address may hold besides a host."""
        source = _QUERY.sub("?…", _LOGIN.sub("//…@", self.source)) if "//" in self.source else self.source
        return source if self.kind == "own" else f"{self.kind}:{source}" if source else self.kind

    def of(self, node: str) -> SensorChoice:
        """As it is read for one node: those that say the same read the same."""
        return msgspec.structs.replace(self, node="", workload=None, source=self.source.replace(NODE, node))

    @property
    def path(self) -> Path:
        """What is read, as a file."""
        return Path(self.folder, self.source)


def parse_sensor(text: str, folder: Path) -> SensorChoice:
    """What `--sensor` says. folder: where. Raises EdgebenchError."""
    said = _SAID.fullmatch(text)
    if said is None:
        raise EdgebenchError(f"--sensor {text!r}: cannot be read (write {_FORM})")
    kind, _, source = said["sensor"].partition(":")
    if kind not in _HOW:
        if not _OWN.fullmatch(said["sensor"]):
            raise EdgebenchError(f"--sensor {text!r}: there is no sensor {kind!r} (write {_FORM})")
        kind, source = "own", said["sensor"]
    choice = SensorChoice(
        said["node"],
        said["workload"],
        kind,  # type: ignore[arg-type]
        source,
        str(folder.resolve()),
    )
    problem = _problem_of(choice)
    if problem is not None:
        raise EdgebenchError(f"--sensor {text!r}: {problem}")
    return choice


def sensor_of(choices: Iterable[SensorChoice], node: NodePlan, workload: str) -> SensorChoice | None:
    """The one that a node reads for a workload, as it is read for this node; None: it replays."""
    best, best_rank = None, -1
    for choice in choices:
        if choice.node in (node.name, node.group) and choice.workload in (None, workload):
            rank = 2 * (choice.node == node.name) + (choice.workload is not None)
            if rank >= best_rank:
                best, best_rank = choice, rank
    return None if best is None or best.kind == "replay" else best.of(node.name)


def said_anew(before: Sequence[SensorChoice], now: Sequence[SensorChoice]) -> list[SensorChoice]:
    """Of one node and workload the last word counts; `replay` of all takes back what was said."""
    by_place = {(each.node, each.workload): each for each in (*before, *now)}
    return list(by_place.values())


def read_sensors(file: Path) -> list[SensorChoice]:
    """What `keep_sensors` has kept; nothing where there is no file. Raises EdgebenchError."""
    try:
        return from_json(file.read_bytes(), list[SensorChoice])
    except FileNotFoundError:
        return []
    except msgspec.DecodeError as error:
        raise EdgebenchError(f"{file}: cannot be read: {error} (remove it, and say --sensor again)") from error


def keep_sensors(file: Path, choices: Sequence[SensorChoice]) -> None:
    """Write them down for this user alone, since an address may hold a password."""
    write_private(file, msgspec.json.format(msgspec.json.encode(choices)))


def sensors_from_environment() -> list[SensorChoice]:
    """Those of this process. Raises EdgebenchError."""
    file = os.environ.get(SENSORS_VARIABLE)
    return [] if file is None else read_sensors(Path(file))


def _problem_of(choice: SensorChoice) -> str | None:
    """What is wrong with it and can be seen before anything is read."""
    source = choice.source.strip()
    if (choice.kind == "replay") != (not source):
        return f"write {_HOW[choice.kind]}"
    if choice.kind in ("pipe", "mqtt") and NODE not in source and not choice.path.exists():
        mend = f"mkfifo {source}" if choice.kind == "pipe" else "see docs/sensors.md"
        return f"there is no {choice.path} ({mend})"
    return None


class SensorError(EdgebenchError):
    """A sensor cannot be read, or does not suit its task."""


def check_can_be_read(choices: Iterable[SensorChoice]) -> None:
    """Raise EdgebenchError for one that cannot be read on this machine, as far as can be seen before it is opened.

    Nothing is run for it, no module of one's own either."""
    for choice in choices:
        look = _LOOKS.get(choice.kind)
        if look is None or NODE in choice.source:
            continue
        try:
            look(choice)
        except SensorError as error:
            raise EdgebenchError(f"--sensor {choice.place}={choice.shown}: {error}") from error


def command_of(choice: SensorChoice) -> list[str]:
    """The program, as it is found on this machine, and its arguments. Raises SensorError."""
    import shlex  # of no use to an agent without such a sensor

    try:
        program, *arguments = shlex.split(choice.source)
    except ValueError as error:
        raise SensorError(f"its command cannot be read: {error} (write {_HOW['program']})") from None
    found = shutil.which(program) or shutil.which(Path(choice.folder, program))
    if found is None:
        raise SensorError(f"there is no program {program!r} (name one that can be run)")
    return [str(found), *arguments]


def pipe_of(choice: SensorChoice) -> Path:
    """Raises SensorError."""
    if not choice.path.is_fifo():
        raise SensorError(f"{choice.path} is no named pipe (mkfifo makes one; camera: and program: read files)")
    return choice.path


def serial_port_of(choice: SensorChoice) -> tuple[str, int]:
    """The device, and its speed as termios has it. Raises SensorError."""
    import termios

    device, _, baud = choice.source.partition("@")
    speed = getattr(termios, f"B{baud or _BAUD}", None)
    if speed is None:
        raise SensorError(f"there is no speed of {baud} baud (write {device}@{_BAUD}, say)")
    if not Path(device).exists():
        raise SensorError(f"there is no {device}")
    return device, speed


def check_camera(choice: SensorChoice) -> None:
    """Raise SensorError where it is a device, or a file, that is not there."""
    source = choice.source
    if source.startswith(LAVFI) or "://" in source:
        return
    path = Path(source.partition("?")[0]) if source.startswith(DEVICES) else choice.path
    if not path.exists():
        raise SensorError(f"there is no {path}")


def gear_file_of(choice: SensorChoice) -> GearFile:
    """Raises SensorError."""
    from edgebench.fabric.gear_file import GearFileError, compiled_paths, read_gear_file  # which reads YAML

    try:
        file = read_gear_file(choice.path)
        compiled_paths(file, choice.path)
    except GearFileError as error:
        raise SensorError(str(error)) from error
    return file


def _check_module(choice: SensorChoice) -> None:
    module = choice.source.partition(":")[0]
    outermost = module.partition(".")[0]
    if any(Path(choice.folder, each).exists() for each in (outermost, f"{outermost}.py")):
        return
    if outermost in sys.modules or importlib.util.find_spec(outermost) is not None:
        return
    import difflib  # of no use where nothing is wrong

    hint = difflib.get_close_matches(module, _HOW, 1)
    mend = f"did you mean {_HOW[hint[0]]}?" if hint else f"it is looked for in {choice.folder} and where Python looks"
    raise SensorError(f"there is no module {module!r} ({mend})")


_LOOKS: Mapping[Kind, Callable[[SensorChoice], object]] = {
    "camera": check_camera,
    "program": command_of,
    "pipe": pipe_of,
    "serial": serial_port_of,
    "mqtt": gear_file_of,
    "own": _check_module,
}
