"""Whoever gives a lab's machines their orders, on the lab's own computer: a run, or the command line."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from edgebench.clock import now_s, sleep_s
from edgebench.core.clocks import Exchange, Offset
from edgebench.fabric.tls import Trust, client_context, private_folder, trust_in
from edgebench.lab.addresses import LabUrl
from edgebench.lab.connection import LabConnection, UnheardError
from edgebench.lab.messages import (
    HOW_TO_WAIT,
    LOST_S,
    MOST_BODY_BYTES,
    OPERATOR,
    AbsentError,
    Clock,
    DeviceCredential,
    DeviceInvitation,
    EndingError,
    HeldError,
    Hold,
    Invitation,
    Invited,
    MachineInfo,
    MachineReport,
    Role,
    Send,
    check_run_id,
)
from edgebench.topology.deployment import HERE

_AGAIN_S = 0.5
_ENDING_S = 60.0
_NEVER_NS = 1 << 62
_Answer = TypeVar("_Answer")


class LabClient:
    """Speaks to the server that works on a folder. From any thread: each request has a connection of its own.

    What a run asks is asked again for as long as its machines wait for the lab: a server that is started anew goes on
    where it was.
    """

    def __init__(self, folder: Path, url: LabUrl) -> None:
        """url: where the server is reached from here."""
        self.folder = folder
        self.url = url
        self._context = client_context(trust_in(folder / OPERATOR), mutual=True)
        self._owned: dict[str, int] = {}

    @property
    def here(self) -> Trust:
        """The certificate of this computer, for the parts of a run that it takes on."""
        return trust_in(self.folder / HERE)

    def machines(self, patience_s: float = 0.0) -> list[MachineInfo]:
        """All members, in the order of their names. patience_s: how long a server may be away."""
        return self._ask("GET", "/v1/operator/machines", list[MachineInfo], patience_s=patience_s)

    def invite(self, role: Role = "any", for_s: float = 900.0) -> Invited:
        """Lines to paste at a board. Raises LabError."""
        return self._ask("POST", "/v1/operator/invitations", Invited, Invitation(role, for_s))

    def invite_device(self, name: str, near: str = HERE) -> DeviceCredential:
        """What a device without Python needs; its key is not kept here. Raises LabError."""
        return self._ask("POST", "/v1/operator/devices", DeviceCredential, DeviceInvitation(name, near))

    def device_password(self, name: str) -> str:
        """By which that one connects to the broker of its site. Raises AbsentError."""
        return self._ask("GET", f"/v1/operator/devices/{quote(name)}/password", str)

    def remove(self, name: str) -> None:
        """End a machine's access, at once. Raises AbsentError."""
        self._ask("DELETE", f"/v1/operator/machines/{quote(name)}", bool)

    def refusals(self) -> dict[str, int]:
        """How many were refused since the server was started, by reason."""
        return self._ask("GET", "/v1/operator/refusals", dict[str, int])

    def hold(
        self,
        run_id: str,
        names: list[str],
        purpose: str,
        wait_s: float = 0.0,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        """Have these machines for a run, all or none, until `release` or the end of this process.

        wait_s: how long to wait for those that others hold, or that are not there. Those that end what a run has left
        behind are waited for in any case. tell: takes what is waited for, whenever that is something else. Raises
        HeldError, AbsentError.
        """
        self._own(run_id)
        began_s, told = now_s(), ""
        hold = Hold(run_id, tuple(names), purpose)
        try:
            while True:
                try:
                    self._ask("POST", "/v1/operator/holds", bool, hold, patience_s=LOST_S)
                    return
                except (HeldError, AbsentError) as error:
                    patience_s = max(wait_s, _ENDING_S) if isinstance(error, EndingError) else wait_s
                    if now_s() > began_s + patience_s:
                        raise
                    if tell is not None and str(error) != told:
                        told = str(error)
                        tell(f"waiting: {told.removesuffix(HOW_TO_WAIT)}")
                sleep_s(_AGAIN_S)
        except BaseException:
            self._disown(run_id)
            raise

    def release(self, run_id: str) -> None:
        """Let a run's machines go; each is free as soon as it has ended what is left of the run."""
        self._ask("DELETE", f"/v1/operator/holds/{quote(run_id)}", bool, patience_s=LOST_S)
        self._disown(run_id)

    def send(self, run_id: str, machine: str, order: bytes) -> int:
        """An order for a machine that the run holds; its number."""
        assert len(order) <= MOST_BODY_BYTES
        question = Send(run_id, machine, order, secrets.token_hex(8))
        return self._ask("POST", "/v1/operator/orders", int, question, patience_s=LOST_S)

    def reports(self, run_id: str, after: int, wait_s: float) -> list[MachineReport]:
        """What machines of a run have said after report number `after`; those before are forgotten. Waits for one."""
        return self._ask(
            "GET",
            f"/v1/operator/holds/{quote(run_id)}/reports",
            list[MachineReport],
            wait_s=wait_s,
            patience_s=LOST_S,
            after=after,
            wait_ms=round(1000 * wait_s),
        )

    def clock(self, machine: str) -> Offset | None:
        """This computer's clock minus the machine's, now; None before they were compared."""
        return self._clock(machine, _NEVER_NS).now

    def exchanges(self, machine: str, after_ns: int = 0) -> list[Exchange]:
        """How the machine's clock (as one's own) and this computer's (as the other) were compared in the last quarter
        of an hour of its session; after_ns: those that began after this moment of the machine's clock."""
        return list(self._clock(machine, after_ns).exchanges)

    def files(self, run_id: str) -> Path:
        """What machines have handed in for a run: `<machine>/<name>`. It goes away when the run lets them go."""
        check_run_id(run_id)
        return self.folder / "files" / run_id

    def close(self) -> None:
        """Machines that are still held are free from now on."""
        for run_id in list(self._owned):
            self._disown(run_id)

    def _clock(self, machine: str, after_ns: int) -> Clock:
        path = f"/v1/operator/machines/{quote(machine)}/clock"
        return self._ask("GET", path, Clock, patience_s=LOST_S, after_ns=after_ns)

    def _ask(
        self,
        method: str,
        path: str,
        answer: type[_Answer],
        question: object = None,
        *,
        wait_s: float = 0.0,
        patience_s: float = 0.0,
        **query: int,
    ) -> _Answer:
        until_s = now_s() + patience_s
        with contextlib.closing(LabConnection(self.url, self._context)) as connection:
            while True:
                try:
                    return connection.ask(method, path, answer, question, wait_s=wait_s, **query)
                except UnheardError:
                    if now_s() > until_s:
                        raise
                sleep_s(_AGAIN_S)

    def _own(self, run_id: str) -> None:
        """The server sees by this lock whether the run's process is there."""
        check_run_id(run_id)
        if run_id in self._owned:
            return
        file = private_folder(self.folder / "holds") / run_id
        lock = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise HeldError(f"{run_id}: a run of that name is under way already") from None
        self._owned[run_id] = lock

    def _disown(self, run_id: str) -> None:
        lock = self._owned.pop(run_id, None)
        if lock is not None:
            os.close(lock)
