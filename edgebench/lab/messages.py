"""What a lab's server, its machines and whoever operates it say to each other, as typed data."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from edgebench.core.clocks import Exchange, Offset
from edgebench.errors import EXIT_TRY_AGAIN, EdgebenchError
from edgebench.topology.deployment import HERE

Role = Literal["any", "edge", "device"]
ReportKind = Literal["report", "lost", "restarted", "removed"]

OPERATOR = "operator"
"""Who holds the certificate of that name may give orders; it never leaves the lab's own computer."""
RESERVED = frozenset({HERE, OPERATOR, "local"})

DEFAULT_PORT = 46900
DEVICE_PORT = 46901
"""Where devices without Python find the broker of their site, in every run that they take part in."""

LOST_S = 30.0
"""Who has not been heard for so long is not there any more: a machine then ends its parts by itself."""
PRESENT_S = 10.0
"""Who was heard so lately is there."""

FILES = "files"
"""As what machines hand them in."""
MOST_BODY_BYTES = 4 << 20
"""Of an order or a report; what is larger is a file."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_FILE_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._ -]{0,127}")
_MOST_PARTS = 4


class LabError(EdgebenchError):
    """A lab that cannot be reached, or that refuses."""


class PassingError(LabError):
    """What may be otherwise in a while though nobody mends it: systemd starts a command again that ends by it."""

    exit_status = EXIT_TRY_AGAIN


class TokenError(LabError):
    """A token that lets nobody in. kind: what is wrong with it, in a word or two."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class HeldError(LabError):
    """A machine serves another run."""


HOW_TO_WAIT = " (wait for its end with --wait)"
"""How the words of a `HeldError` end."""


class EndingError(HeldError):
    """A machine serves a run that is over, and ends what that has left behind."""


class AbsentError(LabError):
    """A machine is no member of the lab, or is not there."""


class ConflictError(LabError):
    """Another process has joined as this machine."""


class LostError(LabError):
    """The lab was not heard for `LOST_S`."""


class RemovedError(LabError):
    """This machine is not of the lab any more."""


STATUS: dict[int, type[LabError]] = {
    403: LabError,
    404: AbsentError,
    409: ConflictError,
    410: RemovedError,
    423: HeldError,
    425: EndingError,
}
"""What kind of refusal an answer of the server is."""


class Facts(msgspec.Struct, frozen=True):
    """What a machine says of itself. code: digest of the source that it runs. runtimes: those of models that it has;
    brokers: the programs. python: the interpreter. address: its own, by which it reaches the lab. processors: see
    `edgebench.cpu.shared_name`. open_files: how many a process may have at most; 0: not known. steps: whether its clock
    can be stepped."""

    arch: str
    cores: int
    memory_mb: int
    versions: dict[str, str]
    code: str
    runtimes: tuple[str, ...]
    brokers: tuple[str, ...] = ()
    python: str = ""
    address: str = ""
    processors: str = ""
    open_files: int = 0
    steps: bool = False


class Introduction(msgspec.Struct, frozen=True):
    """What a server says to anybody: who vouches for it (PEM), and what time it is there (s since 1970)."""

    authority: bytes
    now_s: float


class JoinRequest(msgspec.Struct, frozen=True):
    """request: for a certificate, PEM. exactly: the name was chosen; else it may get a number where it is taken."""

    secret: bytes
    request: bytes
    name: str
    exactly: bool
    facts: Facts


class Joined(msgspec.Struct, frozen=True):
    """A machine is in, by this name. certificate: PEM."""

    name: str
    role: Role
    certificate: bytes


class Hello(msgspec.Struct, frozen=True):
    """A machine begins a session: whatever it was told before is void."""

    session: str
    facts: Facts


class Welcome(msgspec.Struct, frozen=True):
    """mend: the line by which a machine that runs other code than the lab comes to run the same."""

    name: str
    role: Role
    mend: str | None = None


class Order(msgspec.Struct, frozen=True):
    """For a machine. body: whatever that run says to it; None: the run has let it go, so all of it is to be ended."""

    run_id: str
    body: bytes | None


class NumberedOrder(msgspec.Struct, frozen=True):
    """Numbers grow, with gaps."""

    seq: int
    order: Order


class Told(msgspec.Struct, frozen=True):
    """Reports of a machine, numbered from `first` in its session."""

    session: str
    first: int
    bodies: tuple[bytes, ...]


class MachineReport(msgspec.Struct, frozen=True):
    """For a run, of a machine that it holds. report: its own words, `body`. lost: it was not heard for `LOST_S`;
    restarted: it is there, but what it ran is not; removed: by the lab's operator."""

    seq: int
    machine: str
    kind: ReportKind
    body: bytes = b""


class ClockQuestion(msgspec.Struct, frozen=True, array_like=True):
    """What time is it there? last: what came of the question before, in this session."""

    session: str
    last: Exchange | None


class Holder(msgspec.Struct, frozen=True):
    """What a machine runs, and for whom. since: ISO, UTC."""

    run_id: str
    purpose: str
    since: str


class MachineInfo(msgspec.Struct, frozen=True):
    """A member of the lab.

    address: as the lab sees it; server_address: the lab's, as the machine reaches it. offset: the lab's clock minus the
    machine's, now. last_seen_s: so long ago; None: never. lab_code: a digest of what the lab's server runs. same_code:
    whether the machine runs the same. mend: the line to paste there otherwise. near: of a `device-only` one, the
    machine whose broker it connects to.
    processors: those of several machines that share a computer's are the same word.
    """

    name: str
    kind: Literal["machine", "device-only"]
    role: Role
    present: bool
    address: str = ""
    server_address: str = ""
    arch: str = ""
    cores: int = 0
    memory_mb: int = 0
    versions: dict[str, str] = {}
    same_code: bool = False
    mend: str | None = None
    runtimes: tuple[str, ...] = ()
    brokers: tuple[str, ...] = ()
    offset: Offset | None = None
    last_seen_s: float | None = None
    holder: Holder | None = None
    near: str | None = None
    processors: str = ""
    open_files: int = 0
    steps: bool = False
    lab_code: str = ""


class Hold(msgspec.Struct, frozen=True):
    """A run wants machines for itself. purpose: for people."""

    run_id: str
    names: tuple[str, ...]
    purpose: str


class Send(msgspec.Struct, frozen=True):
    """An order of a run for a machine that it holds. key: its own, by which it is known should it come twice."""

    run_id: str
    machine: str
    body: bytes
    key: str


class Invitation(msgspec.Struct, frozen=True):
    """A token to be drawn."""

    role: Role
    for_s: float


class Invited(msgspec.Struct, frozen=True):
    """Lines to paste at a board: to install, and to join, by the token. until: ISO, UTC."""

    install: str
    join: str
    until: str
    token: str


class DeviceInvitation(msgspec.Struct, frozen=True):
    """A credential for a device without Python is to be made."""

    name: str
    near: str


class DeviceCredential(msgspec.Struct, frozen=True):
    """All that a device without Python needs. host, port: where its site's broker listens; server_name: what that one's
    certificate says. until: when its own expires, ISO, UTC."""

    name: str
    password: str
    host: str
    port: int
    server_name: str
    authority: bytes
    certificate: bytes
    key: bytes
    until: str


class Clock(msgspec.Struct, frozen=True):
    """Of a machine, as far as it was compared. now: the server's clock minus the machine's."""

    now: Offset | None
    exchanges: tuple[Exchange, ...]


def check_name(name: str) -> None:
    """Raises LabError for what cannot be a machine's."""
    if not _NAME.fullmatch(name):
        raise LabError(f"{name!r}: no name of a machine (write a-z, 0-9 and - between them, at most 63)")
    if name in RESERVED:
        raise LabError(f"{name!r}: means something else already (name the machine otherwise with --name)")


def check_run_id(run_id: str) -> None:
    """Raises LabError for what cannot be the name of a run directory."""
    if not _RUN_ID.fullmatch(run_id):
        raise LabError(f"{run_id!r}: no name of a run")


def status_of(error: LabError) -> int:
    """The status of the answer that tells of it."""
    return next((status for status, kind in STATUS.items() if type(error) is kind), 403)


def check_file_name(name: str) -> None:
    """Raises LabError for what cannot be the name of an uploaded file, of at most four parts between slashes."""
    parts = name.split("/")
    if len(parts) > _MOST_PARTS or not all(map(_FILE_PART.fullmatch, parts)):
        raise LabError(f"{name!r}: no name of a file to be handed in")
