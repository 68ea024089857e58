"""A machine's side of a lab: orders come, reports and files go, and the clocks are compared, over reconnections.

With the standard library alone. Three connections: one waits for orders, in the thread of whoever asks for them; one
hands reports in, and one compares clocks, each in a thread of its own.
"""

from __future__ import annotations

import math
import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import msgspec

from edgebench.clock import now_s, utc_now
from edgebench.core.clocks import Exchange
from edgebench.fabric.authority import make_request, read_key, valid_until
from edgebench.fabric.control import HttpClient
from edgebench.fabric.endpoints import HttpUrl
from edgebench.fabric.tls import client_context, private_folder, renew, tls_name, write_private
from edgebench.fabric.transfers import hand_in
from edgebench.lab.clock_exchange import ClockAsker
from edgebench.lab.connection import LabConnection, UnheardError
from edgebench.lab.facts import facts_of_this_machine
from edgebench.lab.joining import Identity
from edgebench.lab.messages import (
    FILES,
    LOST_S,
    MOST_BODY_BYTES,
    ConflictError,
    Hello,
    LabError,
    LostError,
    NumberedOrder,
    Order,
    Told,
    Welcome,
)
from edgebench.lab.places import HEARD, machine_folder
from edgebench.topology.deployment import HERE

_POLL_S = 10.0
_PAUSES_S = (0.2, 0.5, 1.0, 2.0)
_BURST = 24
_BURST_EVERY_S = 0.02
_COMPARE_EVERY_S = 0.5
_MOST_AT_ONCE = 200
_HAND_IN_AGAIN_S = 0.5
_TOUCH_EVERY_S = 2.0
_RENEWED_AFTER = 2 / 3
"""Of the time for which a certificate is good."""
_RENEW_AGAIN = timedelta(hours=1)

Tell = Callable[[str], None]


class MachineLink:
    """Joined, as this identity, for as long as it is open. `orders` is for one thread, the rest for any."""

    def __init__(
        self,
        identity: Identity,
        tell: Tell,
        *,
        lost_s: float = LOST_S,
        begin_within_s: float = math.inf,
        calendar: Callable[[], datetime] = utc_now,
    ) -> None:
        """tell: takes lines for whoever looks after this machine. begin_within_s: for how long a lab that is not heard
        is tried. calendar: by which certificates run out."""
        self.identity = identity
        self.trust = identity.trust
        """This machine's certificate, for the parts that it runs."""
        self._tell = tell
        self._lost_s = lost_s
        self._begin_within_s = begin_within_s
        self._calendar = calendar
        self._context = client_context(self.trust, mutual=True)
        self._orders, self._mail = (LabConnection(identity.url, self._context) for _ in range(2))
        self._clock = ClockAsker(identity.url, self.trust)
        self._facts = facts_of_this_machine()
        self._changed = threading.Condition()
        self._session: str | None = None
        self._done = 0
        self._first = 1
        self._outbox: deque[bytes] = deque()
        self._heard_s = now_s()
        self._touched_s = -math.inf
        self._heard_file = private_folder(machine_folder()) / HEARD
        self._trouble: str | None = None
        self._told_to_upgrade = False
        self._interrupted = False
        self._closing = False
        self._renew_at = calendar()
        self._threads = [
            threading.Thread(target=self._hand_in, name="reports to the lab", daemon=True),
            threading.Thread(target=self._compare, name="clock of the lab", daemon=True),
        ]

    def __enter__(self) -> MachineLink:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.interrupt()
        self._say_goodbye()
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._mail.hang_up()
        self._clock.hang_up()
        for thread in self._threads:
            thread.join()
        for connection in (self._orders, self._mail, self._clock):
            connection.close()

    @property
    def address(self) -> str:
        """This machine's own, by which it reaches the lab; empty while it does not."""
        return self._orders.own_address

    def orders(self) -> Iterator[Order]:
        """Each order once, in their order; one counts as carried out when the next is asked for. Ends by `interrupt`.

        Raises LostError when the lab has not been heard for 30 s, or another process has taken this one's place: what
        runs is to be ended, and then this may be called again. Raises RemovedError once this machine is of the lab no
        more.
        """
        try:
            if self._session is None:
                self._begin()
            while not self._interrupted:
                for numbered in self._next_orders():
                    yield numbered.order
                    self._done = numbered.seq
                self._renew_in_time()
        except LabError:
            with self._changed:
                self._session = None
            raise

    def interrupt(self) -> None:
        """From any thread: `orders` ends. What is reported is sent still, until this is closed."""
        with self._changed:
            self._interrupted = True
            self._changed.notify_all()
        self._orders.hang_up()

    def report(self, body: bytes) -> None:
        """Tell the run that holds this machine; kept, and sent in this order. Outside a session nobody would hear."""
        assert len(body) <= MOST_BODY_BYTES
        with self._changed:
            if self._session is not None:
                self._outbox.append(body)
                self._changed.notify_all()

    def upload(self, run_id: str, name: str, path: Path) -> None:
        """Hand a file in for a run that holds this machine, by a name of at most four parts between slashes.

        Raises FabricError where it is refused, or no more of it could be sent for a minute.
        """
        url = HttpUrl(self.identity.url.host, self.identity.url.port, tls=True, server_name=tls_name(HERE)).url
        with HttpClient(url, "", trust=self.trust) as client:
            hand_in(client, f"{FILES}/{quote(f'{run_id}/{name}', safe='')}", path)

    def _begin(self) -> None:
        """Begin a session, as soon as the lab is heard."""
        session = secrets.token_hex(8)
        for pause_s in self._pauses():
            try:
                facts = msgspec.structs.replace(self._facts, address=self._orders.own_address)
                hello = Hello(session, facts)
                welcome = self._orders.ask("POST", "/v1/machine/hello", Welcome, hello)
                with self._changed:
                    self._session, self._done, self._first = session, 0, 1
                    self._outbox.clear()
                    self._changed.notify_all()
                self._renew()  # not before: another may have this one's place, and tries go on for ever
            except (UnheardError, ConflictError) as error:
                if self._interrupted:
                    return  # a session that has begun is said goodbye to
                with self._changed:
                    self._session = None
                self._note_trouble(error)
                self._check_heard_within(self._begin_within_s)
                self._rest(pause_s)
                continue
            self._note_heard()
            break
        else:
            return
        if welcome.mend is not None and not self._told_to_upgrade:
            self._told_to_upgrade = True
            self._tell(f"this machine runs other code than the lab; join again after: {welcome.mend}")

    def _pauses(self) -> Iterator[float]:
        """Before each further try; for ever, until `interrupt`."""
        number = 0
        while not self._interrupted:
            yield _PAUSES_S[min(number, len(_PAUSES_S) - 1)]
            number += 1

    def _next_orders(self) -> list[NumberedOrder]:
        """What there is to do, or nothing for a while."""
        for pause_s in self._pauses():
            session = self._session
            assert session is not None
            try:
                found = self._orders.ask(
                    "GET",
                    "/v1/machine/orders",
                    list[NumberedOrder],
                    wait_s=_POLL_S,
                    session=session,
                    after=self._done,
                    wait_ms=round(1000 * _POLL_S),
                )
            except UnheardError as error:
                if self._interrupted:
                    break
                self._note_trouble(error)
                self._check_heard_within(self._lost_s)
                self._rest(pause_s)
            except ConflictError as error:
                raise LostError(str(error)) from error
            else:
                self._note_heard()
                return found
        return []

    def _rest(self, pause_s: float) -> None:
        """Wait, unless it is to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._interrupted, pause_s)

    def _check_heard_within(self, patience_s: float) -> None:
        silent_s = now_s() - self._heard_s
        if silent_s > patience_s:
            raise LostError(f"{self.identity.url}: the lab was not heard for {silent_s:.0f} s")

    def _note_trouble(self, error: LabError) -> None:
        if self._trouble != str(error):
            self._trouble = str(error)
            self._tell(f"{error}; trying again")

    def _note_heard(self) -> None:
        self._hear()
        if self._trouble is not None:
            self._trouble = None
            self._tell(f"{self.identity.url}: the lab is heard again")

    def _hear(self) -> None:
        """The lab has just answered. From any thread."""
        self._heard_s = now_s()
        if self._heard_s > self._touched_s + _TOUCH_EVERY_S:
            self._touched_s = self._heard_s
            with suppress(OSError):  # its age tells
                self._heard_file.touch()

    def _renew(self) -> None:
        """Have another certificate, for the address that this machine has now. Raises as `LabConnection.ask` does."""
        trust = self.trust
        certificate = self._orders.ask("POST", "/v1/machine/renew", bytes, make_request(read_key(trust.key_file)))
        write_private(trust.certificate_file, certificate)
        renew(self._context, trust)
        # On a connection that is kept, the server would see the old one, which it knows no more once that runs out.
        for connection in (self._orders, self._mail, self._clock):
            connection.begin_anew()
        now = self._calendar()
        self._renew_at = now + (valid_until(certificate) - now) * _RENEWED_AFTER

    def _renew_in_time(self) -> None:
        if self._calendar() > self._renew_at:
            try:
                self._renew()
            except UnheardError:  # it is good for long yet
                self._renew_at = self._calendar() + _RENEW_AGAIN

    def _say_goodbye(self) -> None:
        """As far as it can be said at once."""
        with self._changed:
            until_s = now_s() + 2.0
            while self._session is not None and self._outbox and now_s() < until_s and self._trouble is None:
                self._changed.wait(0.1)
            session, self._session = self._session, None
        if session is not None and self._trouble is None:
            with closing(LabConnection(self.identity.url, self._context)) as farewell:
                try:
                    farewell.ask("POST", "/v1/machine/goodbye", bool, session)
                except LabError as error:
                    self._tell(str(error))

    def _hand_in(self) -> None:
        """The thread that sends reports."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or (self._session is not None and self._outbox))
                if self._closing:
                    return
                assert self._session is not None
                told = Told(self._session, self._first, self._cut_off())
            try:
                have = self._mail.ask("POST", "/v1/machine/reports", int, told)
            except LabError:  # whoever waits for orders notices as well, and says so
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, _HAND_IN_AGAIN_S)
                continue
            with self._changed:
                if self._session == told.session:
                    while self._outbox and self._first <= have:
                        self._outbox.popleft()
                        self._first += 1
                    self._changed.notify_all()

    def _cut_off(self) -> tuple[bytes, ...]:
        """As many of the reports as one request can hold."""
        taken: list[bytes] = []
        for body in self._outbox:
            if len(taken) == _MOST_AT_ONCE or sum(map(len, taken)) + len(body) > MOST_BODY_BYTES:
                break
            taken.append(body)
        return tuple(taken)

    def _compare(self) -> None:
        """The thread that compares clocks: often at first, then twice a second."""
        last: Exchange | None = None
        session, number = None, 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._session is not None)
                if self._closing:
                    return
                if self._session != session:
                    session, number, last = self._session, 0, None
            before = last
            try:
                last = self._clock.ask(session or "", last)
            except OSError:  # whoever waits for orders notices as well, and says so
                last = None
            if before is not None and last is not None:
                # The first answer comes before the lab has seen who asks; it has hung up since where it should not be.
                self._hear()
            number += 1
            pause_s = _BURST_EVERY_S if last is not None and number < _BURST else _COMPARE_EVERY_S
            with self._changed:
                self._changed.wait_for(lambda: self._closing, pause_s)
