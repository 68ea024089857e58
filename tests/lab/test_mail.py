"""Orders and reports arrive once and in their order, and a machine is one run's at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edgebench.fabric.authority import Authority
from edgebench.lab.database import Database
from edgebench.lab.mail import Mail
from edgebench.lab.members import Members
from edgebench.lab.messages import HeldError, LabError, Order, Told
from tests.lab.test_members import asks, invited


@pytest.fixture
def mail(tmp_path: Path) -> Iterator[Mail]:
    """Of a lab with the machines a and b, each in a session."""
    with closing(Database(tmp_path / "lab.db")) as database:
        members = Members(database, Authority.create(tmp_path / "authority"))
        made = Mail(database)
        for name in ("a", "b"):
            members.join(asks(invited(members), name), "")
            made.begin_session(name, f"first of {name}")
        yield made


def send(mail: Mail, run_id: str, machine: str, body: bytes) -> int:
    """Each with a key of its own."""
    return mail.send(run_id, machine, body, f"key of {body!r}")


def bodies(mail: Mail, machine: str, after: int = 0) -> list[bytes | None]:
    return [numbered.order.body for numbered in mail.orders(machine, after)]


def told(mail: Mail, run_id: str, after: int = 0) -> list[tuple[str, str, bytes]]:
    return [(report.machine, report.kind, report.body) for report in mail.reports(run_id, after)]


def test_a_hold_is_of_all_machines_or_of_none_and_names_the_holder(mail: Mail) -> None:
    mail.hold("run-1", ["a"], "icu-ward, by alice")
    with pytest.raises(HeldError, match=r"a: serves the run run-1 \(icu-ward, by alice\) since .* UTC \(.*--wait\)"):
        mail.hold("run-2", ["b", "a"], "another")
    assert mail.holder("b") is None
    mail.hold("run-2", ["b"], "another")
    assert [mail.holds(), mail.held("run-1"), mail.held("run-2")] == [["run-1", "run-2"], ["a"], ["b"]]


def test_orders_are_kept_until_they_are_carried_out(mail: Mail) -> None:
    mail.hold("run-1", ["a"], "")
    numbers = [send(mail, "run-1", "a", body) for body in (b"one", b"two", b"three")]
    assert numbers == sorted(numbers)
    assert bodies(mail, "a") == bodies(mail, "a") == [b"one", b"two", b"three"]
    assert bodies(mail, "a", numbers[0]) == [b"two", b"three"]
    assert bodies(mail, "a", 0) == [b"two", b"three"]
    assert mail.orders("a", numbers[2]) == []


def test_an_answer_carries_no_more_orders_than_one_may_be_large(mail: Mail) -> None:
    mail.hold("run-1", ["a"], "")
    sizes = [1, 2_000_000, 2_000_000, 2_000_000, 4_000_000, 4_000_000, 7]
    numbers = [mail.send("run-1", "a", bytes(size), f"key {index}") for index, size in enumerate(sizes)]
    got: list[list[int]] = []
    after = 0
    while orders := mail.orders("a", after):
        got.append([len(order.order.body or b"") for order in orders])
        after = orders[-1].seq
    assert got == [[1, 2_000_000, 2_000_000], [2_000_000], [4_000_000], [4_000_000, 7]]
    assert after == numbers[-1]


def test_an_answer_carries_no_more_reports_than_one_may_be_large(mail: Mail) -> None:
    mail.hold("run-1", ["a", "b"], "")
    mail.take("a", Told("first of a", 1, (bytes(3_000_000), b"1", bytes(3_000_000))))
    mail.take("b", Told("first of b", 1, (bytes(4_500_000), b"2")))
    got: list[list[int]] = []
    after = 0
    while reports := mail.reports("run-1", after):
        got.append([len(report.body) for report in reports])
        after = reports[-1].seq
    assert got == [[3_000_000, 1], [3_000_000], [4_500_000], [1]]


def test_an_order_that_comes_twice_is_laid_ready_once(mail: Mail) -> None:
    mail.hold("run-1", ["a"], "")
    first = mail.send("run-1", "a", b"one", "its key")
    assert mail.orders("a", first) == []
    assert mail.send("run-1", "a", b"one", "its key") == first
    assert mail.orders("a", first) == []


def test_orders_and_reports_outlast_the_server(mail: Mail, tmp_path: Path) -> None:
    mail.hold("run-1", ["a"], "")
    send(mail, "run-1", "a", b"one")
    mail.take("a", Told("first of a", 1, (b"done",)))
    with closing(Database(tmp_path / "lab.db")) as database:
        again = Mail(database)
        assert bodies(again, "a") == [b"one"]
        assert told(again, "run-1") == [("a", "report", b"done")]


def test_only_the_run_that_holds_a_machine_may_order_it(mail: Mail) -> None:
    mail.hold("run-1", ["a"], "")
    for run_id, machine in (("run-2", "a"), ("run-1", "b")):
        with pytest.raises(LabError, match=f"{machine}: is not held by the run {run_id}"):
            send(mail, run_id, machine, b"")


def test_a_report_that_is_sent_twice_is_told_once(mail: Mail) -> None:
    mail.hold("run-1", ["a", "b"], "")
    assert mail.take("a", Told("first of a", 1, (b"1", b"2"))) == 2
    assert mail.take("a", Told("first of a", 2, (b"2", b"3"))) == 3
    assert mail.take("a", Told("first of a", 1, (b"1",))) == 3
    assert mail.take("b", Told("first of b", 1, (b"1",))) == 1
    assert told(mail, "run-1") == [*(("a", "report", body) for body in (b"1", b"2", b"3")), ("b", "report", b"1")]
    last = mail.reports("run-1", 0)[-2].seq
    assert told(mail, "run-1", last) == [("b", "report", b"1")]
    with pytest.raises(LabError, match="reports before number 5 are missing"):
        mail.take("a", Told("first of a", 5, (b"5",)))


def test_what_a_machine_says_that_nobody_holds_is_dropped(mail: Mail) -> None:
    assert mail.take("a", Told("first of a", 1, (b"1",))) == 1
    mail.hold("run-1", ["a"], "")
    assert told(mail, "run-1") == []


def test_a_machine_is_free_again_when_it_has_ended_what_is_left(mail: Mail) -> None:
    mail.hold("run-1", ["a", "b"], "")
    send(mail, "run-1", "a", b"never read")
    assert mail.release("run-1", {"a"}) == ["a"]
    mail.hold("run-2", ["b"], "")  # it was not there, so there is nothing to wait for
    with pytest.raises(HeldError):
        mail.hold("run-2", ["a"], "")
    (goodbye,) = mail.orders("a", 0)
    assert goodbye.order == Order("run-1", None)
    mail.take("a", Told("first of a", 1, (b"late",)))
    assert mail.orders("a", goodbye.seq) == []
    mail.hold("run-2", ["a"], "")
    assert told(mail, "run-2") == told(mail, "run-1") == []
    assert mail.runs() == ["run-2"]


def test_a_machine_that_begins_anew_has_no_orders_and_its_run_is_told(mail: Mail) -> None:
    mail.hold("run-1", ["a"], "")
    send(mail, "run-1", "a", b"one")
    mail.begin_session("a", "first of a")
    assert bodies(mail, "a") == [b"one"]
    mail.begin_session("a", "second of a")
    assert bodies(mail, "a") == []
    assert told(mail, "run-1") == [("a", "restarted", b"")]
    with pytest.raises(LabError, match="a session that is over"):
        mail.take("a", Told("first of a", 1, (b"1",)))
    assert mail.take("a", Told("second of a", 1, (b"1",))) == 1


@pytest.mark.parametrize("how", ["begins anew", "is lost"])
def test_a_machine_that_was_let_go_and_is_gone_is_free(mail: Mail, how: str) -> None:
    mail.hold("run-1", ["a"], "")
    mail.release("run-1", {"a"})
    if how == "is lost":
        mail.free_lost("a")
    else:
        mail.begin_session("a", "second of a")
    assert mail.holder("a") is None
    assert mail.runs() == []
