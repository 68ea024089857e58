"""Who is in the lab: invitations, the machines that took them up, and the certificates by which they are known."""

from __future__ import annotations

import secrets
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

import msgspec

from edgebench.clock import utc_now
from edgebench.errors import FabricError
from edgebench.fabric.authority import MACHINE_DAYS, Authority, Issued, key_pem, make_key, make_request, requested_key
from edgebench.fabric.tls import Peer
from edgebench.lab.database import Database
from edgebench.lab.messages import AbsentError, Facts, Joined, JoinRequest, LabError, Role, TokenError, check_name
from edgebench.lab.tokens import Token, digest_of, is_secret_of, new_token
from edgebench.topology.deployment import HERE

_FORGOTTEN_AFTER_S = 30 * 86_400.0
"""Until then whoever comes with an old token is told what became of it."""
_DEVICE_DAYS = 365.0
_PASSWORD_BYTES = 24
_ANOTHER = "another: edgebench lab invite, on the lab's server"
_NOTHING = Facts("", 0, 0, {}, "", ())


@dataclass(frozen=True)
class Member:
    """A machine of the lab. near: of a device without Python; password: by which that one connects to brokers."""

    name: str
    role: Role
    facts: Facts
    seen_s: float | None
    near: str | None
    password: str | None


class Members:
    """What is kept of them, in the lab's database."""

    def __init__(self, database: Database, authority: Authority) -> None:
        self._database = database
        self._authority = authority

    def invite(self, role: Role, for_s: float) -> tuple[Token, datetime]:
        """A token that lets one machine in, and until when. Of it only a digest is kept."""
        token, now_s = new_token(self._authority.fingerprint), utc_now().timestamp()
        until_s = now_s + for_s
        with self._database.change(durably=True) as db:
            db.execute("DELETE FROM invitations WHERE until_s < ?", (now_s - _FORGOTTEN_AFTER_S,))
            db.execute(
                "INSERT INTO invitations (digest, role, until_s) VALUES (?, ?, ?)",
                (digest_of(token.secret), role, until_s),
            )
        return token, datetime.fromtimestamp(until_s, UTC)

    def join(self, asked: JoinRequest, address: str) -> Joined:
        """Let a machine in. One whose answer got lost may ask again, with the same key, and gets it.

        Raises TokenError, or LabError where its name or its request is of no use; the token is not used up then.
        """
        key = _key_of(asked.request)
        now_s = utc_now().timestamp()
        with self._database.change(durably=True) as db:
            found = self._invitation(asked.secret)
            if found["used_by"] is not None and found["used_key"] != key:
                raise TokenError(
                    "used", f"the token was used at {_told(found['used_s'])}, by {found['used_by']!r} ({_ANOTHER})"
                )
            if found["until_s"] < now_s:
                raise TokenError("expired", f"the token expired at {_told(found['until_s'])} ({_ANOTHER})")
            role = cast(Role, found["role"])
            if found["used_by"] is not None:
                name = found["used_by"]
                if self._row(name) is None:
                    raise TokenError("used", f"the token was used by {name!r}, which was removed ({_ANOTHER})")
            else:
                name = self._free_name(asked.name, exactly=asked.exactly)
                facts = msgspec.json.encode(asked.facts)
                db.execute(
                    "INSERT INTO machines (name, role, key, joined_s, facts) VALUES (?, ?, ?, ?, ?)",
                    (name, role, key, now_s, facts),
                )
                db.execute(
                    "UPDATE invitations SET used_by = ?, used_key = ?, used_s = ? WHERE digest = ?",
                    (name, key, now_s, found["digest"]),
                )
            issued = self._certify(db, asked.request, name, address)
        return Joined(name, role, issued.pem)

    def renew(self, name: str, request: bytes, address: str) -> bytes:
        """Another certificate for a member's key, PEM. Raises LabError where the request is of another key."""
        row = self._row(name)
        if row is None or row["key"] != _key_of(request):
            raise LabError(f"{name}: asks for a certificate for another key than its own")
        with self._database.change(durably=True) as db:
            return self._certify(db, request, name, address).pem

    def add_device(self, name: str, near: str) -> tuple[Member, Issued, bytes]:
        """Let a device without Python in: it cannot ask by itself, so its key is made here; the key, PEM, is not kept.

        Raises LabError where the name is taken, or there is no machine `near`.
        """
        key = make_key()
        request = make_request(key)
        with self._database.change(durably=True) as db:
            self._free_name(name, exactly=True)
            if near != HERE:
                self.get(near)
            db.execute(
                "INSERT INTO machines (name, role, key, joined_s, facts, near, password) "
                "VALUES (?, 'device', ?, ?, ?, ?, ?)",
                (
                    name,
                    requested_key(request),
                    utc_now().timestamp(),
                    msgspec.json.encode(_NOTHING),
                    near,
                    secrets.token_urlsafe(_PASSWORD_BYTES),
                ),
            )
            issued = self._certify(db, request, name, "", days=_DEVICE_DAYS)
        return self.get(name), issued, key_pem(key)

    def remove(self, name: str) -> None:
        """Forget a machine and its certificates. Raises AbsentError."""
        with self._database.change(durably=True) as db:
            if db.execute("DELETE FROM machines WHERE name = ?", (name,)).rowcount == 0:
                raise self._absent(name)

    def knows(self, peer: Peer) -> bool:
        """Whether this certificate is one of that machine's."""
        query = "SELECT 1 FROM certificates WHERE serial = ? AND machine = ?"
        return self._database.row(query, peer.serial, peer.machine) is not None

    def is_machine(self, name: str) -> bool:
        """Whether this member runs `edgebench join`; else it is a device without Python, or is no member."""
        return self._database.row("SELECT 1 FROM machines WHERE name = ? AND near IS NULL", name) is not None

    def seen(self, name: str, facts: Facts) -> None:
        """It was there just now, and is like that."""
        with self._database.change() as db:
            values = (msgspec.json.encode(facts), utc_now().timestamp(), name)
            db.execute("UPDATE machines SET facts = ?, seen_s = ? WHERE name = ?", values)

    def all(self) -> list[Member]:
        """In the order of their names."""
        return [_member(row) for row in self._database.rows("SELECT * FROM machines ORDER BY name")]

    def get(self, name: str) -> Member:
        """One of them. Raises AbsentError."""
        row = self._row(name)
        if row is None:
            raise self._absent(name)
        return _member(row)

    def _row(self, name: str) -> sqlite3.Row | None:
        return self._database.row("SELECT * FROM machines WHERE name = ?", name)

    def _absent(self, name: str) -> AbsentError:
        names = ", ".join(member.name for member in self.all()) or "none"
        return AbsentError(f"{name}: no machine of the lab (there are: {names})")

    def _invitation(self, secret: bytes) -> sqlite3.Row:
        found = None
        for row in self._database.rows("SELECT * FROM invitations"):  # all of them, so that the time tells nothing
            if is_secret_of(secret, row["digest"]):
                found = row
        if found is None:
            raise TokenError("unknown", f"the token is not known here ({_ANOTHER})")
        return found

    def _free_name(self, wanted: str, *, exactly: bool) -> str:
        """The name, or with a number after it where it is taken; fresh boards all have the same."""
        check_name(wanted)
        if self._row(wanted) is None:
            return wanted
        if exactly:
            raise LabError(
                f"there is a machine {wanted!r} in the lab already (name this one otherwise, or "
                f"`edgebench lab remove {wanted}` on the lab's server)"
            )
        number = 2
        while self._row(name := f"{wanted[:50].rstrip('-')}-{number}") is not None:
            number += 1
        return name

    def _certify(
        self, db: sqlite3.Connection, request: bytes, name: str, address: str, *, days: float = MACHINE_DAYS
    ) -> Issued:
        issued = self._authority.sign(request, name, [address] if address else [], days=days)
        db.execute("DELETE FROM certificates WHERE until_s < ?", (utc_now().timestamp(),))
        db.execute("INSERT INTO certificates VALUES (?, ?, ?)", (issued.serial, name, issued.until.timestamp()))
        return issued


def _key_of(request: bytes) -> bytes:
    try:
        return requested_key(request)
    except FabricError as error:
        raise LabError(str(error)) from error


def _member(row: sqlite3.Row) -> Member:
    facts = msgspec.json.decode(row["facts"], type=Facts)
    return Member(row["name"], row["role"], facts, row["seen_s"], row["near"], row["password"])


def _told(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M} UTC"
