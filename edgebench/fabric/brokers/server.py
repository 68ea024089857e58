"""What the brokers have in common: a program with its files in a private directory, for one run."""

from __future__ import annotations

import contextlib
import ipaddress
import shutil
import socket
import ssl
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, Self

from edgebench.clock import now_s, sleep_s
from edgebench.errors import FabricError
from edgebench.fabric.brokers.ports import Reservation
from edgebench.fabric.brokers.settings import BrokerSettings, BrokerUser
from edgebench.fabric.child_process import ChildProcess
from edgebench.fabric.endpoints import BrokerUrl
from edgebench.fabric.refusals import Wanted
from edgebench.fabric.tls import Trust, client_context, private_folder

if TYPE_CHECKING:
    from edgebench.fabric.brokers.trial import Trial

Kind = Literal["mosquitto", "nats"]

_START_S = 20.0
_STOP_S = 5.0
_POLL_S = 0.005
_CONNECT_S = 1.0
_CONNECT = bytes.fromhex("101000044d5154540402003c0004") + b"eb-0"
_ACCEPTED = b"\x20\x02\x00\x00"
_NOT_AUTHORISED = b"\x20\x02\x00\x05"


class Program(NamedTuple):
    """A broker's program as it is installed."""

    path: Path
    version: str


class Broker(ABC):
    """One broker; start it by `start` or `with`.

    It dies with the thread that starts it, even where that one is killed. At `stop` all its files go away but its log,
    `<name>.log`.
    """

    kind: ClassVar[Kind]

    def __init__(self, settings: BrokerSettings, program: Program) -> None:
        """Raises FabricError where others than this machine could connect in plain text, or without a login."""
        if not ipaddress.ip_address(settings.host).is_loopback and not (settings.tls and settings.users):
            raise FabricError(f"broker {settings.name}: listens beyond loopback with TLS and users only")
        self.settings = settings
        self.name = settings.name
        self.version = program.version
        self.log = settings.directory / f"{settings.name}.log"
        self._program = program.path
        self._context = _context_for(settings.tls, mutual=settings.mutual)
        self._trial = _trial() if settings.users else None
        self._users = settings.users if self._trial is None else (*settings.users, *self._trial.users)
        self._command: list[str] = []
        self._child: ChildProcess | None = None
        self._reservation: Reservation | None = None
        self._log_begins = 0

    @property
    def process(self) -> ChildProcess:
        """The running server, to be watched by whoever runs it."""
        if self._child is None:
            raise FabricError(f"broker {self.name}: not started")
        return self._child

    @property
    def port(self) -> int:
        """Where it listens."""
        if self._reservation is None:
            raise FabricError(f"broker {self.name}: not started")
        return self._reservation.port

    @property
    def url(self) -> str:
        """`mqtt://host:port`, or `mqtts://`, without a login."""
        return BrokerUrl(self.settings.host, self.port, tls=self.settings.tls is not None).url

    def start(self) -> Self:
        """`launch`, and wait `until_up`."""
        self.launch()
        return self.until_up()

    def launch(self) -> None:
        """Start the server, and do not wait for it."""
        private_folder(self.settings.directory)
        for left in self._files():
            if left.exists():
                raise FabricError(f"broker {self.name}: {left} exists already: give each broker its own directory")
        self._reservation = Reservation(self.settings.host, self.settings.port)
        try:
            self._command = self._configure()
            self.log.write_bytes(b"")
            self._spawn()
        except BaseException:
            self.stop()
            raise

    def launch_again(self) -> None:
        """Start a server that has ended once more, with what it left on disk and at its port; it is not waited for."""
        self.process.end()
        self._spawn()

    def _spawn(self) -> None:
        with self.log.open("ab") as log:
            self._child = ChildProcess(self._command, patience_s=_STOP_S, stdout=log, stderr=log)

    def until_up(self) -> Self:
        """Wait until it takes connections; raises FabricError with its last words otherwise.

        Where it asks for a login, it is tried first whether it keeps its users apart, and what is meant for several of
        them together, and whether it cuts off one that is revoked. Raises FabricError where it does not.
        """
        try:
            self._wait_until_it_answers(self.process)
            if self._trial is not None:
                self._try_users(self._trial)
                self._log_begins = self.log.stat().st_size
        except BaseException:
            self.stop()
            raise
        return self

    def revoke(self, *names: str) -> None:
        """End the access of users: their connections are cut, and they cannot connect again."""
        self._admit(tuple(user for user in self._users if user.name not in names))

    def refused(self) -> dict[str, int]:
        """How often it has refused what, since it was up; what never happened is left out, and what it does not log.

        Nobody is refused anything where nobody is asked who they are.
        """
        if not self.settings.users or not self.log.exists():
            return {}
        with self.log.open(encoding="utf-8", errors="replace") as log:
            log.seek(self._log_begins)
            return dict(sorted(Counter(self._refusals(log)).items()))

    def stop(self) -> None:
        """End the server, by force if it does not go. Not started, or stopped before, is fine."""
        if self._child is not None:
            self._child.end()
        if self._reservation is not None:
            self._reservation.release()
            self._remove_files()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @abstractmethod
    def _files(self) -> tuple[Path, ...]:
        """What it has besides its log."""

    @abstractmethod
    def _configure(self) -> list[str]:
        """Write its configuration, for the port and the users of now; the command that starts it."""

    @abstractmethod
    def _refusals(self, log: Iterable[str]) -> Iterator[Wanted]:
        """What the lines of its log say of them."""

    def _remove_files(self) -> None:
        for each in self._files():
            if each.is_dir():
                shutil.rmtree(each)
            else:
                each.unlink(missing_ok=True)

    def _file(self, ending: str) -> Path:
        return self.settings.directory / f"{self.name}.{ending}"

    def _admit(self, users: tuple[BrokerUser, ...]) -> None:
        self._users = users
        self._configure()
        self.process.reload()

    def _wait_until_it_answers(self, child: ChildProcess) -> None:
        until_s = now_s() + _START_S
        while now_s() < until_s:
            if self._answers():
                return
            if child.has_ended:
                raise FabricError(f"broker {self.name}: ended at start: {self._last_words()}")
            sleep_s(_POLL_S)
        raise FabricError(f"broker {self.name}: not ready after {_START_S:.0f} s: {self._last_words()}")

    def _answers(self) -> bool:
        """Whether it answers an MQTT CONNECT without a login as it should."""
        answer = _NOT_AUTHORISED if self._users else _ACCEPTED
        try:
            with self._connection() as connection:
                connection.sendall(_CONNECT)
                answers = connection.recv(len(answer)) == answer
                if answer == _ACCEPTED:
                    connection.sendall(b"\xe0\x00")
                return answers
        except OSError:
            return False

    @contextlib.contextmanager
    def _connection(self) -> Iterator[socket.socket]:
        with socket.create_connection((self.settings.host, self.port), _CONNECT_S) as plain:
            if self._context is None:
                yield plain
            else:
                with self._context.wrap_socket(plain) as secured:
                    yield secured

    def _try_users(self, trial: Trial) -> None:
        where = BrokerUrl(self.settings.host, self.port, tls=self.settings.tls is not None)
        try:
            trial.run(where, self._context, partial(self.revoke, *(user.name for user in trial.users)))
        except FabricError as error:
            raise FabricError(
                f"broker {self.name}, {self.kind} {self.version}: {error} (take another kind, or version)"
            ) from error

    def _last_words(self) -> str:
        lines = [line for line in self.log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
        return f"{lines[-1] if lines else 'no output'} (log: {self.log})"


def _trial() -> Trial:
    from edgebench.fabric.brokers.trial import Trial  # its connections are of no use where everybody may connect

    return Trial()


def _context_for(trust: Trust | None, *, mutual: bool) -> ssl.SSLContext | None:
    """For connections to a broker of this process's own, which holds its port: whatever address that is at, its
    certificate has the name of the machine."""
    if trust is None:
        return None
    context = client_context(trust, mutual=mutual)
    context.check_hostname = False
    return context
