"""`edgebench lab serve` and `edgebench join`: what stays until it is told to end."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edgebench.clock import now_s, sleep_s
from edgebench.errors import EdgebenchError
from edgebench.executors.power_meter import Meter, meter_of
from edgebench.executors.runner import obey
from edgebench.fabric.listening import PORTS
from edgebench.fabric.node_process import end_with_thread
from edgebench.fabric.sensors import SensorChoice, keep_sensors, read_sensors, said_anew
from edgebench.lab import joining, services
from edgebench.lab.addresses import parse_listen
from edgebench.lab.connection import UnheardError
from edgebench.lab.facts import facts_of_this_machine
from edgebench.lab.joining import Identity
from edgebench.lab.machine import MachineLink, Tell
from edgebench.lab.messages import LOST_S, LabError, PassingError
from edgebench.lab.places import lab_folder, machine_folder, sensors_file
from edgebench.lab.serving import ServedLab, find
from edgebench.lab.tokens import HOW_TO_GET

_LOOK_S = 0.5
_BEGIN_S = 20.0
_TOKEN_WITHIN_S = 300.0

_TRY_METER = """\
import sys
from edgebench.errors import EdgebenchError
from edgebench.executors.power_meter import meter_of
try:
    meter_of(sys.argv[1])
except EdgebenchError as error:
    sys.exit(str(error))
"""


def serve_lab(listen: str | None, *, install: bool, tell: Tell) -> None:
    """Serve this computer's lab until SIGINT or SIGTERM; install: have systemd do so, and return. Raises LabError."""
    wanted = None if listen is None else parse_listen(listen)
    if install:
        _install_lab(listen, tell)
        return
    with _room_may_be_made(), _told_to_end() as told, ServedLab(wanted) as served:
        tell(f"the lab is served at {served.url} (its memory: {lab_folder()}); for a board: edgebench lab invite")
        while not told.wait(_LOOK_S):
            if not served.is_running:
                raise PassingError("the lab's server has failed: see above")


def join_lab(
    url: str,
    token: str | Path | None,
    name: str | None,
    *,
    ports: tuple[int, int] = PORTS,
    sensors: Sequence[SensorChoice] = (),
    meter: str | None = None,
    once: bool = False,
    install: bool,
    tell: Tell,
) -> None:
    """Join a lab, and work for it until SIGINT or SIGTERM; install: have systemd do so, and come back.

    token: itself, or a file where it will be; None to join again as who this machine is. ports: the first and the last
    at which parts of runs listen here. sensors: that nodes of runs read here, kept beside those that were said before.
    meter: of this machine's power, `module:attribute` (None: RAPL where there is any). once: until one run is over, or
    the lab is gone. Raises EdgebenchError.
    """
    metered = None
    if install:
        if once:
            raise LabError("--once: what systemd starts would end, and begin again (leave out one of the two)")
        services.check_systemd()
        if meter is not None:
            services.check_there(_TRY_METER, meter)
    else:
        metered = _meter(meter, tell)
    threading.excepthook = end_with_thread
    with joining.only_process():
        if token is None:
            identity = joining.known_in(url)
        elif isinstance(token, Path):
            identity = _admitted_by_file(url, token, name, tell)
        else:
            identity = _admitted(url, token, name, tell)
    tell(f"{identity.url}: this machine is in the lab, as {identity.name!r} ({_ROLES[identity.role]})")
    kept = said_anew(read_sensors(sensors_file()), sensors)
    if sensors:
        keep_sensors(sensors_file(), kept)
    for each in kept:
        tell(f"{each.place} reads {each.shown}")
    facts = facts_of_this_machine()
    if not facts.runtimes:
        tell(
            f"no runtime of models is installed here ({facts.arch}): this machine can be a sensor, and decides nothing"
        )
    if install:
        about = f"this machine's part in the lab at {identity.url}"
        arguments = ["join", str(identity.url), "--ports", "{}-{}".format(*ports)]
        arguments += [] if meter is None else ["--meter", meter]
        for line in services.install("edgebench-join", about, arguments):
            tell(line)
        return
    begin_within_s = LOST_S if once else math.inf
    with (
        _room_may_be_made(),
        _told_to_end() as told,
        joining.only_process(),
        MachineLink(identity, tell, begin_within_s=begin_within_s) as link,
    ):
        threading.Thread(target=_interrupt_when, args=(told, link), name="end of the lab", daemon=True).start()
        obey(link, tell, machine_folder() / "runs", ports, sensors_file(), metered, once=once)


_ROLES = {"any": "for any tier", "edge": "as an edge", "device": "as a device"}


def _admitted(url: str, token: str, name: str | None, tell: Tell) -> Identity:
    """In by a token, unless it is in that lab already."""
    kept = joining.kept_identity()
    if kept is not None and name in (None, kept.name) and joining.is_of(kept, token) and not joining.has_expired(kept):
        again = joining.known_in(url)
        if joining.is_accepted(again):
            tell(f"{url}: this machine was in the lab before, and the token is not used up")
            return again
    return joining.join(url, token, name)


def _admitted_by_file(url: str, file: Path, name: str | None, tell: Tell) -> Identity:
    """In by the token in a file, as soon as it is there and the lab answers. One that is refused may be of an earlier
    lab: another is waited for."""
    refused, why = "", f"{file}: no token in {_TOKEN_WITHIN_S / 60:.0f} min ({HOW_TO_GET}, and write it there)"
    until_s = now_s() + _TOKEN_WITHIN_S
    while now_s() < until_s:
        token = file.read_text("utf-8").strip() if file.is_file() else ""
        if token not in ("", refused):
            try:
                return _admitted(url, token, name, tell)
            except UnheardError as error:  # it may be about to begin
                why = str(error)
            except LabError as error:
                refused, why = token, str(error)
                tell(f"{why}; waiting for another token in {file}")
        sleep_s(_LOOK_S)
    raise LabError(why)


def _install_lab(listen: str | None, tell: Tell) -> None:
    services.check_systemd()
    arguments = ["lab", "serve", *(() if listen is None else ("--listen", listen))]
    for line in services.install("edgebench-lab", "the lab of this computer", arguments):
        tell(line)
    until_s = now_s() + _BEGIN_S
    while (client := find()) is None:
        if now_s() > until_s:
            raise LabError("--install: the service does not begin (see its log)")
        sleep_s(_LOOK_S)
    client.close()


def _meter(where: str | None, tell: Tell) -> Meter | None:
    """See `meter_of`. Raises PassingError where it does not answer: a plug may take longer to start than the board."""
    try:
        return meter_of(where, tell)
    except EdgebenchError as error:
        if isinstance(error.__cause__, OSError):
            raise PassingError(str(error)) from error
        raise


@contextmanager
def _room_may_be_made() -> Iterator[None]:
    """What the system refuses to a command that has begun well, as room on a full disk, it may give in a while."""
    try:
        yield
    except (BrokenPipeError, PermissionError):
        raise
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        raise PassingError(f"{where}{error.strerror or error}") from error


def _interrupt_when(told: threading.Event, link: MachineLink) -> None:
    told.wait()
    link.interrupt()


@contextmanager
def _told_to_end() -> Iterator[threading.Event]:
    """Set by SIGINT and SIGTERM, in the main thread; in any other nobody tells."""
    told = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield told
        return
    before = {each: signal.signal(each, lambda *_: told.set()) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        told.set()
        for number, handler in before.items():
            signal.signal(number, handler)
