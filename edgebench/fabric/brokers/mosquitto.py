"""Eclipse Mosquitto, where it is installed; nothing else in the package knows its configuration."""

from __future__ import annotations

import base64
import hashlib
import os
import pwd
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import ClassVar

from edgebench.fabric.brokers.server import Broker, Kind, Program
from edgebench.fabric.brokers.settings import MAX_PAYLOAD_BYTES, BrokerUser
from edgebench.fabric.refusals import Wanted
from edgebench.fabric.tls import write_private
from edgebench.fabric.topics import covers
from edgebench.topology.model import Durability

OLDEST = (2, 0)
"""Before, its passwords were hashed otherwise, and a limit of 20 in flight could not be lifted."""

_PLACES = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
"""Where it is, though no user but root has that in PATH."""
_SNAP = "snap"
_VERSION = re.compile(r"mosquitto version (\d+\.\d+\S*)")
_UNKNOWN = "of an unknown version"
_ASK_S = 10.0
_CONNECTED = re.compile(r": New client connected from \S+ as (?P<client>.*) \(p\d.*, u'(?P<user>[^']*)'\)\.$")
_TURNED_AWAY = re.compile(
    r" disconnected, not authorised\.$|: Client connection from \S+ failed: "
    r"|: OpenSSL Error\[0\]: .*(certificate verify failed|did not return a certificate|unsupported protocol)$"
)
_CUT_OFF = re.compile(r": Bad socket read/write on client .*: Unknown error\.$")
"""So 2.0.11, as Debian has it, ends who publishes what it may not. Others drop it, and do not say so."""
_SUBSCRIBES = re.compile(r"^[0-9T:-]+: (?P<client>.*) [012] (?P<filter>\S+)$")
_PACKET_IDS = 65535
_TOPIC_BYTES = 65535
_HEADER_BYTES = 16
_SALT_BYTES = 12
_SAVED_EVERY_S = 10
_TURNS = 1

# Every limit that could drop, cut off or send again on a slow machine is out of the way, so that a loss or a duplicate
# in a run is never the broker's housekeeping.
# - set_tcp_nodelay: else it holds small messages back for up to 40 ms.
# - max_inflight_messages: no more than MQTT has packet ids. The others are queued, without a limit.
# - max_packet_size: the largest that it takes; later versions have a lower one unless told.
# - persistence: it saves all that it holds at once, at an orderly end and every few seconds, which is synced. What it
#   acknowledged since is lost with it (its PUBACK says nothing of the disk), and sent again by those who keep it.
# - sys_interval: nobody reads its statistics.
# - user: as root it would become another user, who may not read this directory.
# - tls_version: the oldest that it takes.
# - acl_file: what is not in it is denied. It lets anybody subscribe anything, and delivers what may be heard.
# - log_type subscribe: so that it is seen who has tried to hear more.
_CONFIGURATION = """\
listener {port} {host}
{security}
set_tcp_nodelay true
max_queued_messages 0
max_queued_bytes 0
max_inflight_messages {max_inflight_messages}
max_inflight_bytes 0
max_packet_size {max_packet_size}
{persistence}
sys_interval 0
log_dest stderr
log_timestamp_format %Y-%m-%dT%H:%M:%S
"""


def installed() -> Program | None:
    """The program, whatever its version; None where it is not there.

    One from a snap is not counted: it may read no files but those in its own places.
    """
    found = shutil.which("mosquitto", path=os.pathsep.join([os.environ.get("PATH", os.defpath), *_PLACES]))
    if found is None or Path(found).resolve().name == _SNAP:
        return None
    return Program(Path(found), _version(found))


@cache
def _version(program: str) -> str:
    try:
        said = subprocess.run([program, "-h"], check=False, capture_output=True, timeout=_ASK_S)
    except (OSError, subprocess.TimeoutExpired):
        return _UNKNOWN
    version = _VERSION.search(said.stdout.decode(errors="replace"))
    return version[1] if version else _UNKNOWN


def is_recent(program: Program) -> bool:
    """Whether it is a version that can be told what it has to be."""
    return tuple(map(int, re.findall(r"\d+", program.version)[:2])) >= OLDEST


class Mosquitto(Broker):
    """Its configuration, with the hashes of passwords, goes away at `stop`."""

    kind: ClassVar[Kind] = "mosquitto"

    def _files(self) -> tuple[Path, ...]:
        return self._file("conf"), self._file("passwords"), self._file("acl"), self._file("store")

    def _configure(self) -> list[str]:
        configuration, passwords, acl, store = self._files()
        text = _CONFIGURATION.format(
            port=self.port,
            host=self.settings.host,
            security="\n".join(self._security()),
            max_inflight_messages=_PACKET_IDS,
            persistence=_persistence(store, self.settings.durability),
            max_packet_size=MAX_PAYLOAD_BYTES + _TOPIC_BYTES + _HEADER_BYTES,
        )
        if self._users:
            logins = (f"{user.name}:{_hashed(user.password)}\n" for user in self._users)
            allowed = (f"{line}\n" for user in self._users for line in _allowed(user))
            write_private(passwords, "".join(logins).encode())
            write_private(acl, "".join(allowed).encode())
        write_private(configuration, text.encode())
        return [str(self._program), "-c", str(configuration)]

    def _refusals(self, log: Iterable[str]) -> Iterator[Wanted]:
        may = {user.name: user.may.subscribe for user in self.settings.users}
        users: dict[str, str] = {}
        for line in log:
            if connected := _CONNECTED.search(line):
                users[connected["client"]] = connected["user"]
            elif _TURNED_AWAY.search(line):
                yield "connections"
            elif _CUT_OFF.search(line):
                yield "publications"
            elif (asked := _SUBSCRIBES.search(line)) and asked["client"] in users:
                allowed = may.get(users[asked["client"]], ())
                if not any(covers(each, asked["filter"]) for each in allowed):
                    yield "subscriptions"

    def _security(self) -> Iterator[str]:
        _, passwords, acl, _ = map(Path.resolve, self._files())
        if os.geteuid() == 0:
            yield f"user {pwd.getpwuid(0).pw_name}"
        if not self._users:
            yield "allow_anonymous true"
        else:
            yield from ("allow_anonymous false", f"password_file {passwords}", f"acl_file {acl}")
            yield from (f"log_type {each}" for each in ("error", "warning", "notice", "information", "subscribe"))
        if (tls := self.settings.tls) is not None:
            yield "tls_version tlsv1.3"
            yield from (f"certfile {tls.certificate_file.resolve()}", f"keyfile {tls.key_file.resolve()}")
            if self.settings.mutual:
                yield from (f"cafile {tls.ca_file.resolve()}", "require_certificate true")


def _persistence(store: Path, durability: Durability) -> str:
    if durability == "none":
        return "persistence false"
    store.mkdir(mode=0o700, exist_ok=True)
    lines = "persistence true", f"persistence_location {store.resolve()}/", f"autosave_interval {_SAVED_EVERY_S}"
    return "\n".join(lines)


def _allowed(user: BrokerUser) -> Iterator[str]:
    yield f"user {user.name}"
    for topic in user.may.publish:
        yield f"topic write {topic}"
    for topic in user.may.subscribe:
        yield f"topic read {topic}"


def _hashed(password: str) -> str:
    """As a line of Mosquitto's password file has it: PBKDF2 with SHA-512.

    One turn is enough for what was drawn at random; many would hold the broker up whenever its users change, since it
    then asks all that are connected again.
    """
    salt = secrets.token_bytes(_SALT_BYTES)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _TURNS)
    return f"$7${_TURNS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"
