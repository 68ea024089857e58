"""The file in which a lab's server keeps what must outlast it: members, and what is on its way to and from them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgebench.fabric.tls import private_folder, write_private
from edgebench.lab.messages import LabError

_VERSION = 1
# An order's body is NULL where it lets the machine go. `reported`: the last number of a machine's reports that is here.
# sent: by which a run's order is known that comes twice, since its answer got lost.
_TABLES = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE invitations (
    digest BLOB PRIMARY KEY, role TEXT NOT NULL, until_s REAL NOT NULL,
    used_by TEXT, used_key BLOB, used_s REAL
);
CREATE TABLE machines (
    name TEXT PRIMARY KEY, role TEXT NOT NULL, key BLOB NOT NULL, joined_s REAL NOT NULL, facts BLOB NOT NULL,
    seen_s REAL, session TEXT NOT NULL DEFAULT '', reported INTEGER NOT NULL DEFAULT 0,
    near TEXT, password TEXT
);
CREATE TABLE certificates (
    serial TEXT PRIMARY KEY, machine TEXT NOT NULL REFERENCES machines ON DELETE CASCADE, until_s REAL NOT NULL
);
CREATE TABLE holds (run_id TEXT PRIMARY KEY, purpose TEXT NOT NULL, since TEXT NOT NULL);
CREATE TABLE held (
    machine TEXT PRIMARY KEY REFERENCES machines ON DELETE CASCADE,
    run_id TEXT NOT NULL REFERENCES holds ON DELETE CASCADE,
    letting_go INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE orders (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, machine TEXT NOT NULL REFERENCES machines ON DELETE CASCADE,
    run_id TEXT NOT NULL, body BLOB
);
CREATE TABLE sent (key TEXT PRIMARY KEY, run_id TEXT NOT NULL, seq INTEGER NOT NULL);
CREATE TABLE reports (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, machine TEXT NOT NULL, kind TEXT NOT NULL,
    body BLOB NOT NULL
);
"""


class Database:
    """One connection, for one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Opened, or made. Raises LabError where it is damaged, or of a later version."""
        private_folder(path.parent)
        is_new = not path.exists()
        if is_new:
            write_private(path, b"")  # what SQLite puts beside it has the same mode
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise _unreadable(path, error) from error
        try:
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._db.execute("PRAGMA secure_delete = ON")
            if self._version == 0:
                self._db.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {_VERSION}; COMMIT")
            version = self._version
        except sqlite3.Error as error:
            self.close()
            raise _unreadable(path, error) from error
        if version != _VERSION:
            self.close()
            raise LabError(f"{path}: is of another version of edgebench (upgrade this one)")

    @contextmanager
    def change(self, *, durably: bool = False) -> Iterator[sqlite3.Connection]:
        """A transaction. durably: on the disk when it is over, so that no power cut undoes it."""
        self._db.execute(f"PRAGMA synchronous = {'FULL' if durably else 'NORMAL'}")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        """What a query finds."""
        return self._db.execute(query, values).fetchall()

    def row(self, query: str, *values: object) -> sqlite3.Row | None:
        """The first of it."""
        return next(iter(self.rows(query, *values)), None)

    def setting(self, name: str) -> str | None:
        """One that was kept."""
        row = self.row("SELECT value FROM settings WHERE name = ?", name)
        return None if row is None else row["value"]

    def keep_setting(self, name: str, value: str) -> None:
        """Instead of what was kept before."""
        with self.change() as db:
            db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))

    def close(self) -> None:
        """Nothing is done afterwards."""
        self._db.close()

    @property
    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])


def _unreadable(path: Path, error: sqlite3.Error) -> LabError:
    return LabError(f"{path}: the lab's memory cannot be read: {error}")
