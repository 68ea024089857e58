"""Which run holds which machines, and what is on its way between them: each order and each report arrives once.

It lies in the lab's database until it has been taken, so that a server that is started anew goes on where it was.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence

from edgebench.clock import utc_now
from edgebench.lab.database import Database
from edgebench.lab.messages import (
    HOW_TO_WAIT,
    MOST_BODY_BYTES,
    AbsentError,
    EndingError,
    HeldError,
    Holder,
    LabError,
    MachineReport,
    NumberedOrder,
    Order,
    ReportKind,
    Told,
)


class Mail:
    """What is kept of it, in the lab's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def hold(self, run_id: str, names: Sequence[str], purpose: str) -> None:
        """All of these machines, or none, are that run's from now on. Raises HeldError, which names the holder, and
        EndingError."""
        with self._database.change() as db:
            for name in names:
                holder = self.holder(name)
                if holder is not None and self.lets_go(name):
                    raise EndingError(f"{name}: still ends what the run {holder.run_id} has left behind there")
                if holder is not None and holder.run_id != run_id:
                    raise HeldError(
                        f"{name}: serves the run {holder.run_id} ({holder.purpose}) since {holder.since}{HOW_TO_WAIT}"
                    )
            db.execute(
                "INSERT INTO holds VALUES (?, ?, ?) ON CONFLICT (run_id) DO UPDATE SET purpose = excluded.purpose",
                (run_id, purpose, f"{utc_now():%Y-%m-%d %H:%M:%S} UTC"),
            )
            for name in names:
                # What was said to it before was not this run's.
                db.execute("DELETE FROM orders WHERE machine = ? AND run_id != ?", (name, run_id))
                db.execute("INSERT OR IGNORE INTO held (machine, run_id) VALUES (?, ?)", (name, run_id))

    def holder(self, machine: str) -> Holder | None:
        """Whose a machine is; also while it still ends what that run has left behind."""
        row = self._database.row("SELECT holds.* FROM held JOIN holds USING (run_id) WHERE machine = ?", machine)
        return None if row is None else Holder(row["run_id"], row["purpose"], row["since"])

    def holds(self) -> list[str]:
        """The runs that hold machines, and have not let them go."""
        query = "SELECT DISTINCT run_id FROM held WHERE NOT letting_go"
        return [row["run_id"] for row in self._database.rows(query)]

    def runs(self) -> list[str]:
        """The runs that have machines, those included that they are letting go."""
        return [row["run_id"] for row in self._database.rows("SELECT run_id FROM holds")]

    def held(self, run_id: str) -> list[str]:
        """The machines of a run."""
        query = "SELECT machine FROM held WHERE run_id = ? ORDER BY machine"
        return [row["machine"] for row in self._database.rows(query, run_id)]

    def release(self, run_id: str, present: Collection[str]) -> list[str]:
        """Let the run's machines go; those that are told so. One that is there is free once it has ended what is left.

        Nothing that the run was told, or has said, is kept.
        """
        told = []
        with self._database.change() as db:
            for machine in self.held(run_id):
                db.execute("DELETE FROM orders WHERE machine = ?", (machine,))
                if machine in present:
                    db.execute("UPDATE held SET letting_go = 1 WHERE machine = ?", (machine,))
                    db.execute("INSERT INTO orders (machine, run_id) VALUES (?, ?)", (machine, run_id))
                    told.append(machine)
                else:
                    _free(db, machine)
            db.execute("DELETE FROM reports WHERE run_id = ?", (run_id,))
            db.execute("DELETE FROM sent WHERE run_id = ?", (run_id,))
            _forget_empty(db)
        return told

    def send(self, run_id: str, machine: str, body: bytes, key: str) -> int:
        """Lay an order ready, once for each key; its number.

        Raises LabError where the machine is not that run's, or not there.
        """
        before = self._database.row("SELECT seq FROM sent WHERE key = ?", key)
        if before is not None:
            return int(before["seq"])
        with self._database.change() as db:
            if not self._is_held(machine, run_id):
                raise LabError(f"{machine}: is not held by the run {run_id}")
            if not self.session(machine):
                raise AbsentError(f"{machine}: is not there any more")
            cursor = db.execute("INSERT INTO orders (machine, run_id, body) VALUES (?, ?, ?)", (machine, run_id, body))
            assert cursor.lastrowid is not None
            db.execute("INSERT INTO sent VALUES (?, ?, ?)", (key, run_id, cursor.lastrowid))
            return cursor.lastrowid

    def orders(self, machine: str, after: int) -> list[NumberedOrder]:
        """The next after this number, as many as one answer carries; those before have been carried out, and a machine
        that has let a run go is free."""
        query = "SELECT seq, body IS NULL AS lets_go, LENGTH(body) AS size FROM orders WHERE machine = ? ORDER BY seq"
        known = self._database.rows(query, machine)
        done = [row for row in known if row["seq"] <= after]
        if done:
            with self._database.change() as db:
                db.execute("DELETE FROM orders WHERE machine = ? AND seq <= ?", (machine, after))
                if any(row["lets_go"] for row in done):
                    _free(db, machine)
                    _forget_empty(db)
        last = _last_together(known[len(done) :], after)
        query = "SELECT * FROM orders WHERE machine = ? AND seq > ? AND seq <= ? ORDER BY seq"
        waiting = self._database.rows(query, machine, after, last)
        return [NumberedOrder(row["seq"], Order(row["run_id"], row["body"])) for row in waiting]

    def take(self, machine: str, told: Told) -> int:
        """Keep a machine's reports, those of its session that are new; the number of the last that is here.

        Those that no run asks for are dropped.
        """
        row = self._database.row("SELECT session, reported FROM machines WHERE name = ?", machine)
        if row is None or row["session"] != told.session:
            raise LabError(f"{machine}: tells of a session that is over")
        new = told.bodies[max(0, row["reported"] + 1 - told.first) :]
        if told.first > row["reported"] + 1:
            raise LabError(f"{machine}: reports before number {told.first} are missing")
        last = row["reported"] + len(new)
        with self._database.change() as db:
            db.execute("UPDATE machines SET reported = ? WHERE name = ?", (last, machine))
            for body in new:
                _note(db, machine, "report", body)
        return last

    def note(self, machine: str, kind: ReportKind) -> None:
        """Tell the run that holds a machine what has become of that."""
        with self._database.change() as db:
            _note(db, machine, kind, b"")

    def reports(self, run_id: str, after: int) -> list[MachineReport]:
        """The next after this number, as many as one answer carries; those before have been read."""
        with self._database.change() as db:
            db.execute("DELETE FROM reports WHERE run_id = ? AND seq <= ?", (run_id, after))
        waiting = self._database.rows(
            "SELECT seq, LENGTH(body) AS size FROM reports WHERE run_id = ? ORDER BY seq", run_id
        )
        last = _last_together(waiting, after)
        rows = self._database.rows("SELECT * FROM reports WHERE run_id = ? AND seq <= ? ORDER BY seq", run_id, last)
        return [MachineReport(row["seq"], row["machine"], row["kind"], row["body"]) for row in rows]

    def begin_session(self, machine: str, session: str) -> None:
        """A machine begins anew: what it was told is void, and what it ran is not there any more."""
        row = self._database.row("SELECT session FROM machines WHERE name = ?", machine)
        if row is not None and row["session"] == session:
            return
        with self._database.change() as db:
            db.execute("UPDATE machines SET session = ?, reported = 0 WHERE name = ?", (session, machine))
            db.execute("DELETE FROM orders WHERE machine = ?", (machine,))
            if db.execute("DELETE FROM held WHERE machine = ? AND letting_go", (machine,)).rowcount:
                _forget_empty(db)
            elif row is not None and row["session"]:
                _note(db, machine, "restarted", b"")

    def session(self, machine: str) -> str:
        """The one that it is in."""
        row = self._database.row("SELECT session FROM machines WHERE name = ?", machine)
        return "" if row is None else row["session"]

    def free_lost(self, machine: str) -> None:
        """One that was let go, and is not there to say that it is done."""
        with self._database.change() as db:
            db.execute("DELETE FROM held WHERE machine = ? AND letting_go", (machine,))
            _forget_empty(db)

    def lets_go(self, machine: str) -> bool:
        """Whether it still ends what the run has left behind there that has let it go."""
        return self._database.row("SELECT 1 FROM held WHERE machine = ? AND letting_go", machine) is not None

    def _is_held(self, machine: str, run_id: str) -> bool:
        query = "SELECT 1 FROM held WHERE machine = ? AND run_id = ? AND NOT letting_go"
        return self._database.row(query, machine, run_id) is not None


def _last_together(waiting: Sequence[sqlite3.Row], after: int) -> int:
    """The number of the last of these that goes into one answer: of one at least."""
    last, size_bytes = after, 0
    for row in waiting:
        size_bytes += row["size"] or 0
        if last > after and size_bytes > MOST_BODY_BYTES:
            break
        last = row["seq"]
    return last


def _note(db: sqlite3.Connection, machine: str, kind: ReportKind, body: bytes) -> None:
    db.execute(
        "INSERT INTO reports (run_id, machine, kind, body) "
        "SELECT run_id, machine, ?, ? FROM held WHERE machine = ? AND NOT letting_go",
        (kind, body, machine),
    )


def _free(db: sqlite3.Connection, machine: str) -> None:
    db.execute("DELETE FROM held WHERE machine = ?", (machine,))


def _forget_empty(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM holds WHERE run_id NOT IN (SELECT run_id FROM held)")
