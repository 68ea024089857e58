"""Federated messages: requests to clients and their replies, with what they carry over real HTTP."""

from __future__ import annotations

import http.client
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from edgebench.clock import now_s, sleep_s
from edgebench.fabric.descriptors import most_descriptors
from edgebench.federated import client_presence, message_client, message_server, notices
from edgebench.federated.content import Head, pack, pack_together, write_parcel
from edgebench.federated.message_client import answer_together
from edgebench.federated.notices import Refused
from edgebench.federated.requests import Request
from tests.fabric.served_folder import WAIT_S, until
from tests.federated.message_lab import LARGE, MessageLab, answer_to, message_lab, request, value_of

GRACE_S = 0.4


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_presence, "_GRACE_S", GRACE_S)
    monkeypatch.setattr(message_server, "_TICK_S", 0.05)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[MessageLab]:
    with message_lab(tmp_path) as made:
        yield made


def size_of(sent: Request) -> int:
    return sum(map(len, sent.content))


def test_a_request_gets_its_reply_with_stamps_and_bytes_and_once(lab: MessageLab) -> None:
    sent = request("bed", "1")
    lab.server.submit([sent])
    received = lab.bed.asked()
    until(lambda: lab.server._open["1"].delivered_ns)
    reply_bytes = answer_to(received)
    assert lab.server.take(["1"]) == []
    lab.bed.answer(received, reply_bytes)
    reply = lab.reply("1")
    assert (reply.client, reply.message_id, reply.error) == ("bed", "1", None)
    assert value_of(reply) == 2.0
    assert reply.down_bytes == size_of(sent)
    assert reply.up_bytes == sum(map(len, reply_bytes))
    assert reply.parcel is not None
    assert reply.delivered_ns is not None
    assert reply.received_ns is not None
    client_ns = reply.parcel.head.meta["received_ns"]
    assert isinstance(client_ns, int)
    assert reply.submitted_ns <= client_ns <= reply.delivered_ns <= reply.received_ns
    assert lab.take("1") == []


def test_replies_are_told_apart_whatever_their_order(lab: MessageLab) -> None:
    ids = lab.server.submit([request(name, f"{name} {n}") for name in ("bed", "chair") for n in range(3)])
    for value, client in enumerate(lab.clients.values()):
        client.asked(2)
        for received in reversed(client.received):
            n = int(received.message_id[-1])
            client.answer(received, answer_to(received, value=10.0 * value + n))
    replies = {reply.message_id: value_of(reply) for reply in lab.take(*ids)}
    assert replies == {"bed 0": 0, "bed 1": 1, "bed 2": 2, "chair 0": 10, "chair 1": 11, "chair 2": 12}


def test_what_is_the_same_for_many_is_kept_once_on_either_side_and_fetched_by_each(lab: MessageLab) -> None:
    first = request("bed", "1", LARGE)
    second = Request("chair", Head(message_id="2", kind="train"), first.content)
    lab.clients["chair"].messages._contents = lab.bed.contents  # as the clients of one agent
    lab.server.submit([first, second])
    one, other = lab.bed.asked(), lab.clients["chair"].asked()
    assert one.path == other.path
    assert len(lab.bed.files()) == len(lab.server_files()) == 1
    assert (one.head.message_id, other.head.message_id) == ("1", "2")
    lab.bed.answer(one)
    assert lab.reply("1").down_bytes == size_of(first)
    until(lab.bed.files)
    lab.clients["chair"].answer(other)
    assert lab.reply("2").down_bytes == size_of(first)
    until(lambda: lab.bed.files() == lab.clients["chair"].files() == lab.server_files() == [])


def test_nothing_is_left_behind(lab: MessageLab) -> None:
    message_id = lab.ask(n_values=LARGE)
    path = lab.bed.answer(lab.bed.asked())
    reply = lab.reply(message_id)
    assert value_of(reply) == 2.0  # though its file is gone
    until(lambda: lab.bed.files() == [] and not path.exists())
    assert lab.server_files() == []


def test_a_client_that_is_known_to_be_offline_fails_at_once(lab: MessageLab) -> None:
    lab.status("bed", online=False)
    until(lambda: lab.server._presence.is_offline("bed"))
    reply = lab.reply(lab.ask())
    assert (reply.error, reply.parcel, reply.received_ns, reply.down_bytes) == ("offline", None, None, 0)
    assert lab.server.failed == {"offline": 1}
    assert lab.bed.received == []


def test_a_client_that_goes_away_fails_after_a_grace(lab: MessageLab) -> None:
    message_id = lab.ask()
    lab.bed.asked()
    until(lambda: lab.server._open[message_id].delivered_ns)
    began_s = now_s()
    lab.status("bed", online=False)
    reply = lab.reply(message_id)
    assert now_s() - began_s >= GRACE_S
    assert reply.error == "offline"
    assert reply.delivered_ns is not None
    assert lab.server.failed == {"offline": 1}


def test_a_client_that_comes_back_in_time_is_asked_and_answers(
    lab: MessageLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_presence, "_GRACE_S", WAIT_S)
    lab.bed.reachable = False
    lab.status("bed", online=False)
    message_id = lab.ask()
    sleep_s(0.1)
    lab.bed.reachable = True
    lab.status("bed", online=True)
    lab.bed.answer(lab.bed.asked())
    assert value_of(lab.reply(message_id)) == 2.0
    assert lab.server.failed == {}


def test_a_client_that_has_forgotten_everything_is_asked_again_when_it_is_back(lab: MessageLab) -> None:
    message_id = lab.ask()
    lab.bed.asked()
    lab.bed.forget()
    lab.status("bed", online=True)
    lab.bed.answer(lab.bed.asked(1))
    reply = lab.reply(message_id)
    assert value_of(reply) == 2.0
    # It was sent twice.
    assert reply.down_bytes == 2 * size_of(request("bed", message_id))


def test_a_client_that_has_just_gone_and_stays_away_fails_when_its_grace_ends(lab: MessageLab) -> None:
    lab.bed.reachable = False
    lab.status("bed", online=False)
    assert lab.reply(lab.ask()).error == "offline"
    # A broker may say it once more.
    lab.status("bed", online=False)
    assert lab.reply(lab.ask(message_id="again")).error == "offline"


def test_waiting_for_clients_counts_those_that_have_not_stayed_away(lab: MessageLab) -> None:
    lab.status("bed", online=False)
    lab.server.wait_online(["bed", "chair"], 2, WAIT_S)
    until(lambda: lab.server._presence.is_offline("bed"))
    began_s = now_s()
    lab.server.wait_online(["bed", "chair"], 2, 0.01)
    assert now_s() - began_s >= 0.01
    lab.server.wait_online(["bed", "chair"], 1, WAIT_S)
    lab.status("bed", online=True)
    lab.server.wait_online(["bed", "chair"], 2, WAIT_S)


def test_a_notice_that_is_lost_is_repeated_less_and_less_often(lab: MessageLab) -> None:
    lab.bed.deaf = True
    began_s = now_s()
    message_id = lab.ask()
    # A busy machine may be late, and is never early.
    for times, after_s in ((1, 0.0), (2, 0.1), (3, 0.3), (4, 0.7)):
        lab.bed.told(times)
        assert now_s() - began_s >= after_s
    lab.bed.deaf = False
    lab.bed.answer(lab.bed.asked())
    assert value_of(lab.reply(message_id)) == 2.0


def test_what_is_delivered_is_not_asked_again(lab: MessageLab) -> None:
    message_id = lab.ask()
    lab.bed.asked()
    until(lambda: lab.server._open[message_id].delivered_ns)
    before = lab.bed.heard
    sleep_s(0.3)
    assert lab.bed.heard == before
    lab.now(lab.server.reconnected)
    until(lambda: lab.bed.heard == before + 1)
    assert len(lab.bed.received) == 1


def test_a_request_that_breaks_off_goes_on_where_it_was_and_what_goes_twice_is_counted(tmp_path: Path) -> None:
    with message_lab(tmp_path, down_bytes=700_000, cuts=2) as lab:
        message_id = lab.ask(n_values=LARGE)
        lab.bed.answer(lab.bed.asked())
        reply = lab.reply(message_id)
    size = size_of(request("bed", message_id, LARGE))
    assert value_of(reply) == 2.0
    assert size <= reply.down_bytes < 2 * size  # whatever was under way: 2.0, 1.3 and 0.6 MB at most


def test_a_reply_that_breaks_off_goes_on_where_it_was(tmp_path: Path) -> None:
    with message_lab(tmp_path, up_bytes=700_000, cuts=2) as lab:
        message_id = lab.ask(n_values=LARGE)
        received = lab.bed.asked()
        reply_bytes = answer_to(received)
        lab.bed.answer(received, reply_bytes)
        reply = lab.reply(message_id)
    assert value_of(reply) == 2.0
    # What was under way when a connection broke may be read after another was asked for, and comes once more.
    size = sum(map(len, reply_bytes))
    assert size <= reply.up_bytes < size + 700_000
    assert lab.server_files() == []


def test_giving_up_tells_the_client_which_drops_its_queued_request(lab: MessageLab) -> None:
    message_id = lab.ask(n_values=LARGE)
    received = lab.bed.asked()
    lab.server.give_up([message_id], "the round is over")
    until(lambda: lab.bed.cancelled == [received])
    assert lab.bed.files() == []
    path = lab.directory / "in vain"
    path.write_bytes(b"in vain")
    lab.now(partial(lab.bed.messages.answer, received, path))
    assert not path.exists()
    assert lab.server.take([message_id]) == []
    assert (lab.server.late, lab.server.failed) == (0, {})


def test_giving_up_stops_a_request_on_its_way_and_tells_what_it_has_cost(tmp_path: Path) -> None:
    with message_lab(tmp_path, down_bytes=300_000, cuts=1_000) as lab:
        message_id = lab.ask(n_values=LARGE)
        until(lambda: lab.files._open[message_id].down_bytes > 0)
        (given_up,) = lab.server.give_up([message_id], "the round is over")
        assert (given_up.error, given_up.parcel, given_up.received_ns) == ("the round is over", None, None)
        assert given_up.down_bytes > 0
        until(lambda: lab.bed.messages._open == {} and lab.bed.transfers._running == set())
        assert lab.bed.received == []
        assert lab.server.give_up([message_id], "once more") == []


def test_giving_up_stops_a_reply_on_its_way(tmp_path: Path) -> None:
    with message_lab(tmp_path, up_bytes=300_000, cuts=1_000) as lab:
        message_id = lab.ask(n_values=LARGE)
        path = lab.bed.answer(lab.bed.asked())
        until(lambda: lab.files._open[message_id].carried.up_bytes > 0)
        (given_up,) = lab.server.give_up([message_id], "the round is over")
        assert (given_up.error, given_up.parcel, given_up.received_ns) == ("the round is over", None, None)
        assert given_up.up_bytes > 0
        until(lambda: not path.exists())
        assert lab.server.take([message_id]) == []
        until(lambda: lab.server_files() == [])


def test_what_a_request_has_cost_is_told_when_it_fails(lab: MessageLab) -> None:
    sent = request("bed", "1", LARGE)
    lab.server.submit([sent])
    lab.bed.asked()
    lab.status("bed", online=False)
    reply = lab.reply("1")
    assert reply.error == "offline"
    assert (reply.down_bytes, reply.up_bytes) == (size_of(sent), 0)


def test_a_late_reply_is_counted_once_and_refused(lab: MessageLab) -> None:
    message_id = lab.ask(n_values=LARGE)
    received = lab.bed.asked()
    lab.bed.reachable = False  # so the client is not told
    lab.server.give_up([message_id], "the round is over")
    path = lab.bed.answer(received)
    until(lambda: not path.exists())
    until(lambda: lab.server.late == 1)
    assert lab.files.unexpected == 0
    assert lab.server.take([message_id]) == []
    assert lab.server_files() == []


def test_a_reply_that_was_not_taken_before_its_request_was_given_up_is_late(lab: MessageLab) -> None:
    message_id = lab.ask(n_values=LARGE)
    received = lab.bed.asked()
    reply_bytes = answer_to(received)
    lab.bed.answer(received, reply_bytes)
    lab.server.wait([message_id], WAIT_S)
    (given_up,) = lab.server.give_up([message_id], "the round is over")
    assert (given_up.error, given_up.up_bytes) == ("the round is over", sum(map(len, reply_bytes)))
    assert given_up.received_ns is None
    assert lab.server.take([message_id]) == []
    assert lab.server.late == 1
    assert lab.server_files() == []


@pytest.mark.parametrize("garbage", [b"", b"garbage", b"EBF1\xff\xff\xff\xff", bytes(2_000_000)])
def test_a_reply_that_is_no_parcel_is_a_failure_of_its_request(lab: MessageLab, garbage: bytes) -> None:
    message_id, other = lab.server.submit([request("bed", "1"), request("chair", "2")])
    lab.bed.answer(lab.bed.asked(), [garbage])
    lab.clients["chair"].answer(lab.clients["chair"].asked())
    bad, good = lab.reply(message_id), lab.reply(other)
    assert bad.parcel is None
    assert bad.error is not None
    assert bad.error.startswith(("not a federated message", "a federated message that is cut off"))
    assert bad.up_bytes == len(garbage)
    assert value_of(good) == 2.0
    assert lab.server.failed == {"garbage": 1}
    assert lab.server_files() == []


def test_a_reply_to_another_message_is_a_failure(lab: MessageLab) -> None:
    message_id = lab.ask()
    lab.bed.answer(lab.bed.asked(), pack(Head(message_id="x", kind="train", reply_to="y"), {}))
    reply = lab.reply(message_id)
    assert (reply.error, reply.parcel) == ("a reply to another message", None)


def test_a_clients_error_is_the_replys(lab: MessageLab) -> None:
    message_id = lab.ask()
    received = lab.bed.asked()
    lab.bed.answer(received, answer_to(received, error="no data"))
    reply = lab.reply(message_id)
    assert reply.error == "no data"
    assert reply.parcel is not None
    assert lab.server.failed == {"error": 1}


def test_a_client_without_room_refuses_a_request(lab: MessageLab) -> None:
    lab.bed.directory.rmdir()
    reply = lab.reply(lab.ask(n_values=LARGE))
    assert reply.error is not None
    assert reply.error.startswith("the client refuses it: ")
    assert "No such file or directory" in reply.error
    assert lab.server.failed == {"refused": 1}
    lab.bed.directory.mkdir()


def test_a_reply_that_is_too_large_is_refused_and_its_request_fails(
    lab: MessageLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgebench.federated.message_files.LARGEST_BYTES", 1_000)
    message_id = lab.ask(n_values=LARGE)
    path = lab.bed.answer(lab.bed.asked())
    assert "413" in (lab.reply(message_id).error or "")
    assert not path.exists()


def test_only_the_client_that_was_asked_may_refuse(lab: MessageLab) -> None:
    message_id = lab.ask()
    lab.bed.asked()
    refusal = notices.encode(Refused(message_id, "out of memory"))
    lab.now(partial(lab.server.feed, "chair", refusal))
    assert lab.server.take([message_id]) == []
    lab.now(partial(lab.server.feed, "bed", refusal))
    assert lab.reply(message_id).error == "the client refuses it: out of memory"


def test_what_is_no_notice_is_counted_and_harms_nobody(lab: MessageLab) -> None:
    for payload in (b"", b"\xff" * 100, b"\x91" * 100_000, notices.encode(Refused("x", "y"))[:-1]):
        lab.now(partial(lab.server.feed, "bed", payload))
        lab.now(partial(lab.bed.messages.feed, payload))
    assert lab.server.rejected == lab.bed.messages.rejected == 4
    lab.bed.answer(lab.bed.asked(0) if lab.ask() else lab.bed.asked())
    assert value_of(lab.reply("to bed")) == 2.0


def test_two_requests_cannot_have_one_message_id(lab: MessageLab) -> None:
    lab.ask()
    with pytest.raises(ValueError, match="one message id"):
        lab.server.submit([request("chair", "to bed")])


def test_a_client_that_has_been_closed_is_asked_nothing_more(lab: MessageLab) -> None:
    lab.bed.deaf = True
    lab.ask()
    lab.now(lab.bed.messages.close)
    lab.bed.deaf = False
    heard = lab.bed.heard
    until(lambda: lab.bed.heard > heard + 2, "the server asks again and again")
    assert (lab.bed.received, lab.bed.files()) == ([], [])


def test_closing_ends_what_is_open(lab: MessageLab) -> None:
    message_id = lab.ask()
    received = lab.bed.asked()
    lab.status("chair", online=False)
    lab.now(lab.server.close)
    assert lab.reply(message_id).error == "closed"
    until(lambda: lab.bed.cancelled == [received])
    assert lab.server_files() == []


def test_a_request_after_closing_ends_at_once(lab: MessageLab) -> None:
    lab.now(lab.server.close)
    message_id = lab.ask()
    assert lab.reply(message_id).error == "closed"
    assert lab.server.failed == {"closed": 1}
    assert lab.server.take([message_id]) == []
    lab.server.wait_online(["bed"], 2, WAIT_S)
    assert lab.server.give_up([message_id], "no need") == []
    assert lab.bed.received == []
    assert lab.server_files() == []


def test_a_client_that_closes_leaves_no_files(lab: MessageLab) -> None:
    lab.server.submit([request("bed", "1", LARGE), request("bed", "2", LARGE)])
    lab.bed.asked(1)
    lab.now(lab.bed.messages.close)
    lab.bed.contents.close()
    assert lab.bed.files() == []


def test_waiting_ends_when_the_rest_is_given_up_by_another_thread(lab: MessageLab) -> None:
    ids = lab.server.submit([request("bed", "1"), request("bed", "2"), request("chair", "3")])
    lab.clients["chair"].answer(lab.clients["chair"].asked())
    lab.server.wait(ids, WAIT_S, enough=1)
    giver = threading.Thread(target=lab.server.give_up, args=(["1", "2"], "enough"))
    giver.start()
    lab.server.wait(ids, WAIT_S)
    giver.join()
    assert [reply.client for reply in lab.server.take(ids)] == ["chair"]


def test_waiting_ends_when_time_is_up(lab: MessageLab) -> None:
    message_id = lab.ask()
    lab.server.wait([message_id], 0.01)
    assert lab.server.take([message_id]) == []


@contextmanager
def descriptors(soft: int) -> Iterator[None]:
    """No more than these."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_server_may_have_as_many_replies_in_files_as_the_system_allows(tmp_path: Path) -> None:
    with descriptors(512), message_lab(tmp_path):
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == most_descriptors()


def test_a_reply_that_cannot_be_mapped_is_an_error_and_leaves_no_file(lab: MessageLab) -> None:
    message_id = lab.ask(n_values=LARGE)
    lab.bed.answer(lab.bed.asked())
    lab.server.wait([message_id], WAIT_S)
    until(lambda: lab.bed.files() == [])
    with descriptors(0):
        (reply,) = lab.server.take([message_id])
    assert reply.error == "its reply cannot be read: Too many open files"
    assert (reply.parcel, lab.server.failed) == (None, {"unreadable": 1})
    assert reply.up_bytes > 4 * LARGE
    assert lab.server_files() == []


def asked(lab: MessageLab, method: str, path: str, token: str, body: bytes = b"") -> tuple[int, str]:
    connection = http.client.HTTPConnection(lab.url.removeprefix("http://"), timeout=WAIT_S)
    try:
        connection.request(method, path, body, {"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    finally:
        connection.close()


def test_a_device_fetches_only_what_is_announced_to_it_and_hands_in_only_its_own_replies(lab: MessageLab) -> None:
    lab.ask("chair")
    lab.clients["chair"].asked()
    place = f"to%20chair?sha256={'a' * 64}&size=1&offset=0"
    said = "message to chair is not to a node of this token"
    assert asked(lab, "GET", "/v1/requests/to%20chair", "of-bed") == (403, said)
    assert asked(lab, "GET", f"/v1/uploads/replies/{place}", "of-bed") == (403, said)
    assert asked(lab, "PUT", f"/v1/uploads/replies/{place}", "of-bed", b"x") == (403, said)
    assert asked(lab, "GET", "/v1/requests/to%20chair", "of-chair")[0] == 200
    lab.server.give_up(["to chair"], "over")
    assert asked(lab, "GET", "/v1/requests/to%20chair", "of-chair")[0] == 410


def test_a_reply_to_nothing_is_counted_and_refused(lab: MessageLab) -> None:
    place = f"/v1/uploads/replies/nothing?sha256={'a' * 64}&size=1&offset=0"
    assert asked(lab, "PUT", place, "of-bed", b"x") == (404, "there is no message nothing")
    assert asked(lab, "PUT", place.replace("nothing", "..%2F..%2Fx"), "of-bed", b"x")[0] == 404
    assert lab.files.unexpected == 2
    assert not (lab.directory / "files").exists()


def test_of_messages_that_have_ended_only_the_last_are_remembered(
    lab: MessageLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_client, "_ENDED_KEPT", 2)
    for number in range(4):
        lab.ask(message_id=str(number))
        lab.bed.answer(lab.bed.asked(number))
        assert value_of(lab.reply(str(number))) == 2.0
    until(lambda: list(lab.bed.messages._ended) == ["2", "3"])


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[MessageLab]:
    """Three clients of one process, with one way to the server."""
    with message_lab(tmp_path, ("bed", "chair", "couch"), in_one_process=True) as made:
        yield made


def answered_together(lab: MessageLab, names: list[str], message_ids: list[str]) -> int:
    """Have these clients hand in what they were asked first, together; the bytes of it."""
    clients = [lab.clients[name] for name in names]
    received = [client.asked() for client in clients]
    replies = pack_together([answer_to(each, value=float(at)) for at, each in enumerate(received)])
    path = lab.directory / "all" / "together.reply"
    write_parcel(path, replies)
    answered = [(client.messages, each) for client, each in zip(clients, received, strict=True)]
    assert [each.message_id for each in received] == message_ids
    lab.soon(partial(answer_together, answered, path))
    return sum(map(len, replies))


def test_clients_of_one_process_fetch_once_what_they_are_all_asked_and_it_counts_for_each(shared: MessageLab) -> None:
    content = request("bed", "1").content
    names = list(shared.clients)
    sent = [Request(name, Head(message_id=str(at), kind="train"), content) for at, name in enumerate(names)]
    shared.server.submit(sent)
    size = answered_together(shared, names, ["0", "1", "2"])
    replies = shared.take("0", "1", "2")
    assert [value_of(reply) for reply in replies] == [0.0, 1.0, 2.0]
    assert [reply.down_bytes for reply in replies] == [size_of(sent[0])] * 3
    assert sum(reply.up_bytes for reply in replies) == size
    until(lambda: shared.bed.files() == [])
    assert shared.server_files() == []


def test_what_the_first_one_cannot_fetch_the_next_one_does(shared: MessageLab) -> None:
    content = request("bed", "1").content
    heads = [Head(message_id=name, kind="train") for name in ("bed", "chair")]
    shared.bed.deaf = shared.clients["chair"].deaf = True
    shared.server.submit([Request(head.message_id, head, content) for head in heads])
    shared.now(lambda: None)  # they are on their way
    notices_of = {each.message_id: notices.encode(each.notice) for each in shared.server._open.values()}
    shared.server.give_up(["bed"], "nobody wants it")
    for name, notice in notices_of.items():
        shared.soon(partial(shared.clients[name].messages.feed, notice))
    shared.clients["chair"].asked()
    assert shared.bed.received == []


def test_of_replies_that_come_together_those_to_messages_that_were_given_up_are_late(shared: MessageLab) -> None:
    for name in shared.clients:
        shared.ask(name)
    for client in shared.clients.values():
        client.asked()
        client.deaf = True  # it does not hear that one is given up
    shared.server.give_up(["to chair"], "the round is over")
    answered_together(shared, list(shared.clients), ["to bed", "to chair", "to couch"])
    replies = shared.take("to bed", "to couch")
    assert [value_of(reply) for reply in replies] == [0.0, 2.0]
    until(lambda: shared.server.late == 1)
    assert shared.server_files() == []


def test_of_replies_that_come_together_one_that_is_missing_is_a_failure_of_its_request(shared: MessageLab) -> None:
    for name in ("bed", "chair"):
        shared.ask(name)
    bed, chair = (shared.clients[name] for name in ("bed", "chair"))
    received = [bed.asked(), chair.asked()]
    path = shared.directory / "all" / "together.reply"
    write_parcel(path, pack_together([answer_to(received[0]), answer_to(received[0])]))
    shared.soon(partial(answer_together, [(bed.messages, received[0]), (chair.messages, received[1])], path))
    good, bad = shared.take("to bed", "to chair")
    assert value_of(good) == 2.0
    assert bad.error == "a reply to another message"
    assert shared.server.failed == {"garbage": 1}
    assert shared.server_files() == []


def test_nobody_hands_in_for_a_client_that_its_token_does_not_speak_for(lab: MessageLab) -> None:
    for name in ("bed", "chair"):
        lab.ask(name)
    received = [lab.clients[name].asked() for name in ("bed", "chair")]
    path = lab.bed.directory / "together.reply"
    write_parcel(path, pack_together([answer_to(each) for each in received]))
    answered = [(lab.bed.messages, received[0]), (lab.clients["chair"].messages, received[1])]
    lab.soon(partial(answer_together, answered, path))  # by the bed's token
    replies = lab.take("to bed", "to chair")
    assert all("not to a node of this token" in str(reply.error) for reply in replies)


def test_a_content_whose_fetch_ends_as_all_are_deleted_harms_nobody(tmp_path: Path) -> None:
    contents = message_client.ContentFiles(tmp_path / "contents")
    (tmp_path / "fetched").write_bytes(b"model")
    contents.add("a" * 64, tmp_path / "fetched")
    contents.close()
    contents.release("a" * 64)
    assert not contents.hold("a" * 64)
    assert list((tmp_path / "contents").iterdir()) == []
