"""Certificates are renewed long before they run out, by the calendar, and nobody notices."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from edgebench.clock import utc_now
from edgebench.fabric.authority import valid_until
from edgebench.fabric.tls import trust_in
from edgebench.lab import joining
from edgebench.lab.listening import Listener
from edgebench.lab.machine import MachineLink
from tests.lab.labs import LOOPBACK, Lab, Machine, eventually


class Calendar:
    """That of today, moved by some days."""

    def __init__(self) -> None:
        self.days = 0.0

    def __call__(self) -> datetime:
        return utc_now() + timedelta(days=self.days)


def forget_certificate(lab: Lab, serial: str) -> None:
    """As the server does when it has run out."""
    with contextlib.closing(sqlite3.connect(lab.home / "lab" / "lab.db")) as database, database:
        assert database.execute("DELETE FROM certificates WHERE serial = ?", (serial,)).rowcount == 1


def serials(lab: Lab) -> list[str]:
    with contextlib.closing(sqlite3.connect(lab.home / "lab" / "lab.db")) as database:
        found = database.execute("SELECT serial FROM certificates WHERE machine = 'pi' ORDER BY rowid").fetchall()
    return [serial for (serial,) in found]


def until_three_comparisons(lab: Lab) -> None:
    (last,) = lab.client.exchanges("pi")[-1:]
    eventually(lambda: len(lab.client.exchanges("pi", last.t0_ns)) > 2)


def test_a_machine_that_stays_joined_shows_another_certificate_in_time_on_all_its_connections(
    lab: Lab, tmp_path: Path
) -> None:
    calendar = Calendar()
    with lab.at(tmp_path / "pi"):
        link = MachineLink(joining.join(lab.url, lab.token(), "pi"), lambda _line: None, calendar=calendar)
    with Machine(link) as pi:
        eventually(lambda: lab.info("pi").present)
        lab.client.hold("run", ["pi"], "a test", wait_s=10.0)
        for calendar.days in (0.0, 59.0):
            before = serials(lab)
            lab.client.send("run", "pi", b"")
            eventually(lambda: len(pi.orders) == (1 if calendar.days == 0.0 else 2))
            assert serials(lab) == before
        calendar.days = 61.0
        lab.client.send("run", "pi", b"")
        eventually(lambda: len(serials(lab)) > len(before))
        eventually(lambda: link._renew_at > calendar())  # by now it has the other one, and shows that
        until_three_comparisons(lab)  # of which the first may have been under way
        for serial in before:
            forget_certificate(lab, serial)
        until_three_comparisons(lab)
        pi.link.report(b"still here")
        eventually(lambda: [each.body for each in lab.client.reports("run", 0, 0.0)] == [b"still here"])
        (tmp_path / "log").write_bytes(b"line")
        pi.link.upload("run", "logs/log", tmp_path / "log")
        lab.client.send("run", "pi", b"last")
        eventually(lambda: pi.orders[-1].body == b"last")
        assert pi.errors == []
        lab.client.release("run")
    assert lab.client.refusals() == {}


@pytest.mark.parametrize(("days", "is_renewed"), [(55.0, False), (65.0, True)])
def test_the_server_shows_another_certificate_a_month_before_its_own_runs_out(
    tmp_path: Path, days: float, is_renewed: bool
) -> None:
    async def renewed() -> tuple[bytes, bytes]:
        async with Listener(tmp_path / "lab", LOOPBACK) as listener:
            file = trust_in(tmp_path / "lab" / "here").certificate_file
            before = file.read_bytes()
            listener.renew_certificates(utc_now() + timedelta(days=days))
            return before, file.read_bytes()

    before, after = asyncio.run(renewed())
    assert (before != after) is is_renewed
    assert valid_until(after) - utc_now() > timedelta(days=89)
