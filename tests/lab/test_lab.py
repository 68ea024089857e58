"""A lab's server and its machines, over real connections: joined over restarts of either, held, let go, thrown out."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from edgebench.cli import main
from edgebench.clock import NS_PER_MS, now_s, sleep_s, utc_now
from edgebench.errors import EXIT_TRY_AGAIN, EXIT_USER_ERROR
from edgebench.fabric import authority
from edgebench.fabric.authority import Authority
from edgebench.fabric.tls import client_context
from edgebench.lab import joining, listening, server, serving
from edgebench.lab.addresses import Listen, parse_listen
from edgebench.lab.connection import LabConnection, UnheardError
from edgebench.lab.listening import own_addresses
from edgebench.lab.messages import (
    AbsentError,
    HeldError,
    Introduction,
    LabError,
    LostError,
    Order,
    RemovedError,
)
from edgebench.lab.places import HEARD
from edgebench.lab.presence import Presence
from edgebench.lab.serving import ServedLab
from tests.conftest import ROOT
from tests.lab.labs import LOOPBACK, Lab, eventually


def reported(lab: Lab, run_id: str, number: int, after: int = 0) -> list[tuple[str, bytes]]:
    """So many reports of a run, as soon as they are there."""
    found: list[tuple[str, bytes]] = []
    until_s = now_s() + 10.0
    while len(found) < number and now_s() < until_s:
        for report in lab.client.reports(run_id, after, 1.0):
            after = report.seq
            found.append((report.kind, report.body))
    return found


def test_orders_go_to_a_machine_and_its_reports_come_back(lab: Lab, tmp_path: Path) -> None:
    with lab.link(tmp_path / "pi", "pi") as pi:
        pi.answer = lambda order: pi.link.report(b"done " + (order.body or b"all"))
        lab.client.hold("run-1", ["pi"], "a test", wait_s=10.0)
        for body in (b"one", b"two"):
            lab.client.send("run-1", "pi", body)
        assert reported(lab, "run-1", 2) == [("report", b"done one"), ("report", b"done two")]
        lab.client.release("run-1")
        eventually(lambda: lab.info("pi").holder is None)
    assert pi.orders == [Order("run-1", b"one"), Order("run-1", b"two"), Order("run-1", None)]
    assert pi.errors == []


@pytest.mark.long  # 84 MB
def test_orders_that_wait_together_may_be_larger_than_any_answer(lab: Lab, tmp_path: Path) -> None:
    def wait(_order: Order) -> None:
        all_sent.wait(60.0)

    all_sent = threading.Event()
    with lab.link(tmp_path / "pi", "pi") as pi:
        pi.answer = wait
        lab.client.hold("run-1", ["pi"], "a test", wait_s=10.0)
        for _ in range(28):
            lab.client.send("run-1", "pi", bytes(3_000_000))
        all_sent.set()
        eventually(lambda: len(pi.orders) == 28, 60.0)
    assert pi.errors == []


def test_a_machine_says_what_it_is_and_how_its_clock_stands(lab: Lab, tmp_path: Path) -> None:
    with lab.link(tmp_path / "pi", "pi"):
        eventually(lambda: (known := lab.info("pi").offset) is not None and known.bound_ns < 50 * NS_PER_MS)
        pi = lab.info("pi")
        assert pi.present
        assert pi.same_code
        assert (pi.address, pi.server_address) == ("127.0.0.1", "127.0.0.1")
        assert (pi.arch, pi.cores) == (os.uname().machine, len(os.sched_getaffinity(0)))
        assert pi.versions["python"] == sys.version.split()[0]
        offset = pi.offset
        assert offset is not None
        assert abs(offset.offset_ns) <= offset.bound_ns  # both are the same clock
        eventually(lambda: len(lab.client.exchanges("pi")) > 20)
    assert not lab.info("pi").present


def test_a_run_goes_on_over_a_restart_of_the_server(lab: Lab, tmp_path: Path) -> None:
    with lab.link(tmp_path / "pi", "pi") as pi:
        lab.client.hold("run-1", ["pi"], "a test", wait_s=10.0)
        lab.client.send("run-1", "pi", b"before")
        eventually(lambda: len(pi.orders) == 1)
        lab.served.stop()
        pi.link.report(b"said to nobody")
        again = threading.Timer(1.0, lab.serve_again)
        again.start()
        lab.client.send("run-1", "pi", b"after")
        again.join()
        assert reported(lab, "run-1", 1) == [("report", b"said to nobody")]
        eventually(lambda: len(pi.orders) == 2)
    assert [order.body for order in pi.orders] == [b"before", b"after"]


def test_a_machine_of_which_only_the_clock_is_heard_again_is_not_there_before_its_address_is_known() -> None:
    presence = Presence("the session of before")
    presence.heard()
    assert not presence.is_present
    presence.is_at("10.0.0.2", "10.0.0.1")
    assert presence.is_present


def test_a_machine_that_is_started_anew_is_in_the_lab_again_and_its_run_is_told(lab: Lab, tmp_path: Path) -> None:
    with lab.link(tmp_path / "pi", "pi"):
        lab.client.hold("run-1", ["pi"], "a test", wait_s=10.0)
    assert reported(lab, "run-1", 1) == [("restarted", b"")]
    with pytest.raises(AbsentError, match="pi: is not there any more"):
        lab.client.send("run-1", "pi", b"to nobody")
    with lab.link(tmp_path / "pi") as pi:
        eventually(lambda: lab.info("pi").present)
        lab.client.send("run-1", "pi", b"again")
        eventually(lambda: pi.orders == [Order("run-1", b"again")])


def test_a_lab_that_is_not_heard_is_lost_to_its_machine_which_goes_on_trying(lab: Lab, tmp_path: Path) -> None:
    with lab.at(tmp_path / "pi"):
        identity = joining.join(lab.url, lab.token(), "pi")
    with lab.link(tmp_path / "pi", lost_s=0.5) as pi:
        eventually(lambda: lab.info("pi").present)
        lab.stop()
        eventually(lambda: pi.errors)
    assert isinstance(pi.errors[0], LostError)
    assert "the lab was not heard for" in str(pi.errors[0])
    lab.restart()
    with lab.link(tmp_path / "pi"):
        eventually(lambda: lab.info("pi").present)
    assert identity.name == "pi"


def test_a_machine_that_is_busy_with_an_order_for_long_has_heard_the_lab_all_the_same(lab: Lab, tmp_path: Path) -> None:
    def be_long(order: Order) -> None:
        if order.body != b"long":
            return
        heard = tmp_path / "pi" / "machine" / HEARD
        before_s = heard.stat().st_mtime
        eventually(lambda: heard.stat().st_mtime > before_s + 6.0, 20.0)
        lab.served.stop()
        again.start()

    again = threading.Timer(0.5, lab.serve_again)
    with lab.link(tmp_path / "pi", "pi", lost_s=5.0) as pi:
        pi.answer = be_long
        lab.client.hold("run-1", ["pi"], "a test", wait_s=10.0)
        lab.client.send("run-1", "pi", b"long")
        assert again.finished.wait(30.0)
        lab.client.send("run-1", "pi", b"short")
        eventually(lambda: len(pi.orders) == 2)
    assert pi.errors == []


def test_a_removed_machine_is_out_at_once_and_is_told_how_to_come_back(lab: Lab, tmp_path: Path) -> None:
    with lab.link(tmp_path / "pi", "pi") as pi:
        lab.client.hold("run-1", ["pi"], "a test", wait_s=10.0)
        began_s = now_s()
        lab.client.remove("pi")
        eventually(lambda: pi.errors)
        assert now_s() - began_s < 5.0  # it had waited for orders for longer
    assert isinstance(pi.errors[0], RemovedError)
    assert "join with --token (get one by `edgebench lab invite`" in str(pi.errors[0])
    assert reported(lab, "run-1", 1) == [("removed", b"")]
    assert lab.client.machines() == []
    with lab.at(tmp_path / "pi"):
        assert not joining.is_accepted(joining.known_in(lab.url))
        assert joining.join(lab.url, lab.token(), "pi").name == "pi"


def test_a_machine_serves_one_run_and_the_second_waits_for_its_end(lab: Lab, tmp_path: Path) -> None:
    with lab.link(tmp_path / "pi", "pi"):
        lab.client.hold("run-1", ["pi"], "icu-ward, by alice", wait_s=10.0)
        with pytest.raises(HeldError, match=r"pi: serves the run run-1 \(icu-ward, by alice\)"):
            lab.client.hold("run-2", ["pi"], "another")
        lab.client.release("run-1")
        lab.client.hold("run-2", ["pi"], "another")
        holder = lab.info("pi").holder
        assert holder is not None
        assert (holder.run_id, holder.purpose) == ("run-2", "another")
        lab.client.release("run-2")


def test_a_device_without_python_is_free_as_soon_as_its_run_lets_it_go(lab: Lab) -> None:
    lab.client.invite_device("esp-1")
    lab.client.hold("run-1", ["esp-1"], "a test")
    lab.client.release("run-1")
    assert lab.info("esp-1").holder is None


def test_a_machine_that_is_not_there_is_named_before_anything_begins(lab: Lab, tmp_path: Path) -> None:
    lab.joined(tmp_path / "pi", "pi")
    with pytest.raises(AbsentError, match=r"pi: is not there \(never heard yet; is `edgebench join` running on it\?\)"):
        lab.client.hold("run-1", ["pi"], "")
    with pytest.raises(AbsentError, match=r"qi: no machine of the lab \(there are: pi\)"):
        lab.client.hold("run-1", ["qi"], "")


HOLDING = """
import sys
from edgebench.lab.serving import connect
client = connect()
client.hold("run-1", ["pi"], "a test", wait_s=10.0)
print("held", flush=True)
sys.stdin.read()
"""


def test_machines_of_a_command_that_is_killed_are_free(lab: Lab, tmp_path: Path) -> None:
    with lab.link(tmp_path / "pi", "pi") as pi:
        owner = subprocess.Popen(
            [sys.executable, "-c", HOLDING],
            env={**os.environ, "EDGEBENCH_HOME": str(lab.home), "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"held\n"
        assert lab.info("pi").holder is not None
        owner.send_signal(signal.SIGKILL)
        owner.communicate()
        # The next run can have them as soon as they have ended what was left, without being asked to wait for that.
        lab.client.hold("run-2", ["pi"], "another")
        assert pi.orders == [Order("run-1", None)]
        holder = lab.info("pi").holder
        assert holder is not None
        assert holder.run_id == "run-2"
        lab.client.release("run-2")


def certificates(lab: Lab) -> int:
    """How many the server knows."""
    with contextlib.closing(sqlite3.connect(next(lab.home.rglob("lab.db")))) as database:
        (count,) = database.execute("SELECT COUNT(*) FROM certificates").fetchone()
    return int(count)


def test_a_copied_card_does_not_take_the_place_of_a_board_that_is_there(lab: Lab, tmp_path: Path) -> None:
    said: list[str] = []
    with lab.link(tmp_path / "pi", "pi") as pi:
        eventually(lambda: lab.info("pi").present)
        copy = lab.link(tmp_path / "pi")
        copy.link._tell = said.append
        with copy:
            eventually(lambda: said)
            assert "another process has joined as 'pi', from 127.0.0.1" in said[0]
            assert "(a copied card? each board joins with a token of its own" in said[0]
            lab.client.hold("run-1", ["pi"], "", wait_s=10.0)
            lab.client.send("run-1", "pi", b"for the first")
            eventually(lambda: pi.orders)
            before = certificates(lab)
            sleep_s(5.0)
            assert certificates(lab) == before, "each of its tries had another"
        assert copy.orders == []
    assert pi.errors == []


def test_a_machine_that_was_killed_is_in_the_lab_again_when_it_was_silent_for_a_while(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_TAKEN_OVER_S", 0.5)
    with lab.link(tmp_path / "pi", "pi") as pi:
        eventually(lambda: lab.info("pi").present)
        lab.client.hold("run-1", ["pi"], "")
        monkeypatch.setattr(pi.link, "_say_goodbye", lambda: None)
    with lab.link(tmp_path / "pi") as pi:
        assert reported(lab, "run-1", 1) == [("restarted", b"")]
        lab.client.send("run-1", "pi", b"again")
        eventually(lambda: pi.orders == [Order("run-1", b"again")])


def test_a_connection_that_was_closed_while_nothing_was_asked_is_no_trouble(lab: Lab) -> None:
    context = client_context(lab.client.here, mutual=False)
    with contextlib.closing(LabConnection(lab.served.url, context)) as connection:
        first = connection.ask("GET", "/v1/introduction", Introduction)
        lab.restart()
        assert connection.ask("GET", "/v1/introduction", Introduction).authority == first.authority
        lab.stop()
        with pytest.raises(UnheardError, match="the lab does not answer: Connection refused"):
            connection.ask("GET", "/v1/introduction", Introduction)
    lab.restart()


def test_one_home_is_for_one_process(lab: Lab, tmp_path: Path) -> None:
    with (
        lab.at(tmp_path / "pi"),
        joining.only_process(),
        pytest.raises(LabError, match="another process has joined by it"),
        joining.only_process(),
    ):
        pass


def test_a_lab_is_served_once_and_found_by_others(lab: Lab) -> None:
    with lab.at(lab.home):
        with pytest.raises(LabError, match="another process serves this lab already"):
            ServedLab(LOOPBACK).start()
        with serving.lab() as found:
            assert found.url == lab.client.url
            assert found.machines() == []


def test_without_a_server_one_is_served_for_as_long_as_it_takes_at_the_same_port(lab: Lab) -> None:
    lab.stop()
    with lab.at(lab.home):
        assert serving.find() is None
        with pytest.raises(LabError, match=r"no lab is served on this computer .* `edgebench lab serve`"):
            serving.connect()
        with serving.lab() as embedded:
            assert str(embedded.url) == lab.url
            assert embedded.machines() == []
        assert serving.find() is None
    lab.restart()


def test_a_run_that_waits_takes_over_the_server_of_the_one_that_it_waits_for(lab: Lab, tmp_path: Path) -> None:
    lab.stop()
    with lab.at(lab.home), contextlib.ExitStack() as first:
        one = first.enter_context(serving.lab())
        with serving.lab() as two, lab.link(tmp_path / "pi", "pi") as pi:
            one.hold("run-1", ["pi"], "the first", wait_s=10.0)
            said: list[str] = []
            waiting = threading.Thread(target=two.hold, args=("run-2", ["pi"], "the second", 60.0, said.append))
            waiting.start()
            eventually(lambda: said)
            first.close()
            waiting.join(30.0)
            assert not waiting.is_alive()
            two.send("run-2", "pi", b"the second's")
            eventually(lambda: pi.orders and pi.orders[-1] == Order("run-2", b"the second's"))
            two.release("run-2")
        assert serving.find() is None
    assert pi.errors == []
    lab.restart()


def test_a_server_that_is_to_be_started_again_by_its_owner_is_not_taken_over(lab: Lab) -> None:
    with lab.at(lab.home), serving.lab() as found:
        lab.served.stop()
        sleep_s(1.5)
        assert serving.find() is None
        lab.serve_again()
        assert found.machines() == []


def test_a_lab_that_was_served_before_this_computer_had_an_address_invites_by_the_one_that_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ServedLab(Listen("", 0), tmp_path) as served, contextlib.closing(served.client()) as client:
        monkeypatch.setattr(listening, "primary_address", lambda: "192.0.2.7")
        invited = client.invite()
        assert f"join https://192.0.2.7:{served.url.port} --token " in invited.join
        assert f"--trusted-host 192.0.2.7:{served.url.port} https://192.0.2.7:{served.url.port}/v1/" in invited.install


def test_an_address_that_is_taken_is_one_line(lab: Lab, tmp_path: Path) -> None:
    said = rf"--listen 127\.0\.0\.1:{lab.served.url.port}: .*in use"
    with lab.at(tmp_path / "other"), pytest.raises(LabError, match=said) as taken:
        ServedLab(Listen("127.0.0.1", lab.served.url.port)).start()
    assert taken.value.exit_status == EXIT_TRY_AGAIN


def test_a_lab_that_cannot_be_served_yet_ends_by_a_status_after_which_systemd_tries_again(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with lab.at(lab.home):
        assert main(["lab", "serve"]) == EXIT_TRY_AGAIN
    assert capsys.readouterr().err == f"{lab.home}/lab: another process serves this lab already\n"
    with lab.at(tmp_path / "other"):
        assert main(["lab", "serve", "--listen", "192.0.2.1:46900"]) == EXIT_TRY_AGAIN  # before DHCP
        said = capsys.readouterr().err
        assert said.startswith("--listen 192.0.2.1:46900: ")
        assert said.count("\n") == 1
        assert main(["lab", "serve", "--listen", "x"]) == EXIT_USER_ERROR


def test_a_machine_whose_place_is_taken_ends_by_a_status_after_which_systemd_tries_again(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)  # which the command sets
    lab.joined(tmp_path / "pi", "pi")
    with lab.at(tmp_path / "pi"), joining.only_process():
        assert main(["join", lab.url]) == EXIT_TRY_AGAIN
    assert "another process has joined by it" in capsys.readouterr().err


def test_a_board_whose_calendar_is_behind_goes_on_trying_until_it_has_been_told_the_time(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    pi = lab.link(tmp_path / "pi", "pi")
    pi.link._tell = said.append
    lab.stop()
    folder = lab.home / "lab"
    with monkeypatch.context() as ahead:  # by a month, as the lab sees it
        ahead.setattr(authority, "utc_now", lambda: utc_now() + timedelta(days=30))
        Authority.load(folder / "authority").issue(folder / "here", "here", own_addresses())
    lab.serve_again()
    with pi:
        eventually(lambda: said)
        assert "the lab's certificate is not yet valid by this machine's calendar, which says " in said[0]
        lab.served.stop()
        Authority.load(folder / "authority").issue(folder / "here", "here", own_addresses())
        lab.serve_again()
        eventually(lambda: lab.info("pi").present)
    assert pi.errors == []


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("192.0.2.1", "192.0.2.1", 46900), (":5", "", 5), ("[::1]:5", "::1", 5), ("[::1]", "::1", 46900)],
)
def test_where_to_listen_is_read(text: str, host: str, port: int) -> None:
    assert parse_listen(text) == Listen(host, port)


@pytest.mark.parametrize(
    "text",
    ["lab.example:5", "127.0.0.1:x", "127.0.0.1:70000", "1.2.3", pytest.param("127.0.0.1:" + "9" * 5000, id="long")],
)
def test_where_it_cannot_listen_is_one_line(text: str) -> None:
    with pytest.raises(LabError, match=r"write HOST:PORT, HOST or :PORT"):
        parse_listen(text)


def test_an_address_that_nobody_could_be_told_is_refused() -> None:
    with pytest.raises(LabError, match=r"nobody could be told where that is \(name one of its addresses, or write :5,"):
        parse_listen("[::]:5")


def test_a_server_that_is_stopped_while_it_begins_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    served = ServedLab(LOOPBACK, tmp_path / "lab")
    monkeypatch.setattr(served._ready, "result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        served.start()
    assert not served.is_running
