"""Who gets into a lab by a token, under which name, and who is out of it."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography import x509

from edgebench.fabric.authority import Authority, make_key, make_request, serial_of
from edgebench.fabric.tls import Peer
from edgebench.lab.database import Database
from edgebench.lab.members import Members
from edgebench.lab.messages import AbsentError, Facts, JoinRequest, LabError, TokenError
from edgebench.lab.tokens import Token

FACTS = Facts("aarch64", 4, 4096, {"edgebench": "0.1.0"}, "c0de", ("litert",))


@pytest.fixture
def members(tmp_path: Path) -> Iterator[Members]:
    with closing(Database(tmp_path / "lab" / "lab.db")) as database:
        yield Members(database, Authority.create(tmp_path / "authority"))


def asks(token: Token, name: str = "pi", *, exactly: bool = False, request: bytes | None = None) -> JoinRequest:
    return JoinRequest(token.secret, request or make_request(make_key()), name, exactly, FACTS)


def invited(members: Members, for_s: float = 60.0) -> Token:
    return members.invite("any", for_s)[0]


def serial(certificate: bytes) -> str:
    return serial_of(x509.load_pem_x509_certificate(certificate))


def test_a_token_lets_one_machine_in_and_no_second(members: Members) -> None:
    token = members.invite("edge", 60.0)[0]
    joined = members.join(asks(token), "192.0.2.1")
    assert (joined.name, joined.role) == ("pi", "edge")
    assert members.knows(Peer("pi", serial(joined.certificate)))
    with pytest.raises(TokenError, match=r"was used at .* UTC, by 'pi' \(another: edgebench lab invite") as raised:
        members.join(asks(token, "other"), "192.0.2.2")
    assert raised.value.kind == "used"
    assert [member.name for member in members.all()] == ["pi"]


def test_a_machine_whose_answer_got_lost_may_ask_again(members: Members) -> None:
    token, request = invited(members), make_request(make_key())
    first = members.join(asks(token, request=request), "192.0.2.1")
    again = members.join(asks(token, request=request), "192.0.2.1")
    assert again.name == first.name
    assert members.knows(Peer("pi", serial(again.certificate)))
    members.remove("pi")
    with pytest.raises(TokenError, match="was used by 'pi', which was removed"):
        members.join(asks(token, request=request), "192.0.2.1")


def test_tokens_that_are_expired_or_not_known_say_so(members: Members, tmp_path: Path) -> None:
    with pytest.raises(TokenError, match=r"expired at .* UTC") as raised:
        members.join(asks(invited(members, for_s=-1.0)), "")
    assert raised.value.kind == "expired"
    with pytest.raises(TokenError, match="not known here") as raised:
        members.join(asks(Token(bytes(15), bytes(20))), "")
    assert raised.value.kind == "unknown"
    assert members.all() == []


def test_of_a_token_only_a_digest_is_kept(members: Members, tmp_path: Path) -> None:
    token = invited(members)
    for file in (tmp_path / "lab").iterdir():
        assert token.secret not in file.read_bytes()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_fresh_boards_of_one_name_get_numbers_but_a_chosen_name_is_kept_or_refused(members: Members) -> None:
    names = [members.join(asks(invited(members), "raspberrypi"), "").name for _ in range(3)]
    assert names == ["raspberrypi", "raspberrypi-2", "raspberrypi-3"]
    token = invited(members)
    with pytest.raises(LabError, match=r"there is a machine 'raspberrypi' in the lab already .*edgebench lab remove"):
        members.join(asks(token, "raspberrypi", exactly=True), "")
    assert members.join(asks(token, "icu-1", exactly=True), "").name == "icu-1"


@pytest.mark.parametrize("name", ["", "Pi", "a.b", "-a", "a" * 64, "here", "operator", "local", "a/b", "é"])
def test_what_can_be_no_machines_name_is_refused_and_the_token_is_not_used_up(members: Members, name: str) -> None:
    token = invited(members)
    with pytest.raises(LabError):
        members.join(asks(token, name, exactly=True), "")
    assert members.join(asks(token), "").name == "pi"


def test_who_is_removed_is_known_no_more_and_its_name_is_free(members: Members) -> None:
    first = members.join(asks(invited(members)), "")
    members.remove("pi")
    with pytest.raises(AbsentError, match=r"pi: no machine of the lab \(there are: none\)"):
        members.remove("pi")
    second = members.join(asks(invited(members)), "")
    assert not members.knows(Peer("pi", serial(first.certificate)))
    assert members.knows(Peer("pi", serial(second.certificate)))


def test_a_certificate_is_renewed_for_the_same_key_only(members: Members) -> None:
    key = make_key()
    joined = members.join(asks(invited(members), request=make_request(key)), "")
    renewed = members.renew("pi", make_request(key), "192.0.2.9")
    assert members.knows(Peer("pi", serial(renewed)))
    assert members.knows(Peer("pi", serial(joined.certificate)))
    names = x509.load_pem_x509_certificate(renewed).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert [str(each) for each in names.value.get_values_for_type(x509.IPAddress)] == ["192.0.2.9"]
    with pytest.raises(LabError, match="another key than its own"):
        members.renew("pi", make_request(make_key()), "")


def test_members_are_the_same_after_a_restart(members: Members, tmp_path: Path) -> None:
    token = invited(members)
    joined = members.join(asks(token), "")
    with closing(Database(tmp_path / "lab" / "lab.db")) as database:
        again = Members(database, Authority.load(tmp_path / "authority"))
        assert again.knows(Peer("pi", serial(joined.certificate)))
        assert again.get("pi").facts == FACTS
        with pytest.raises(TokenError, match="was used"):
            again.join(asks(token), "")


def test_a_device_without_python_has_a_certificate_and_a_password_of_its_own(members: Members) -> None:
    member, issued, key = members.add_device("esp-1", "here")
    assert (member.role, member.near) == ("device", "here")
    assert len(member.password or "") == 32
    assert b"PRIVATE KEY" in key
    assert members.knows(Peer("esp-1", issued.serial))
    with pytest.raises(LabError, match="there is a machine 'esp-1'"):
        members.add_device("esp-1", "here")
    with pytest.raises(AbsentError, match="ward-7: no machine of the lab"):
        members.add_device("esp-2", "ward-7")
    assert [each.name for each in members.all()] == ["esp-1"]


def test_a_damaged_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "lab.db").write_bytes(b"nothing that SQLite knows" * 100)
    with pytest.raises(LabError, match=r"lab\.db: the lab's memory cannot be read: file is not a database"):
        Database(tmp_path / "lab.db")
