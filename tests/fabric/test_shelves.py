"""Files on their way in, piece by piece, and who may ask: without a network."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from edgebench.fabric.shelves import Caller, Callers, Refusal, Upload, arriving, is_digest

TEXT = b"a model of some kind"
DIGEST = hashlib.sha256(TEXT).hexdigest()


def upload(tmp_path: Path) -> Upload:
    return Upload(tmp_path / "coming", DIGEST, len(TEXT))


def test_a_file_comes_in_pieces_and_is_compared_with_its_digest(tmp_path: Path) -> None:
    coming = upload(tmp_path)
    bringer = coming.begin(0)
    coming.add(bringer, 0, TEXT[:7])
    assert (coming.have_bytes, coming.is_whole) == (7, False)
    coming.add(bringer, 7, TEXT[7:])
    assert coming.is_whole
    assert coming.is_sound()
    assert coming.partial.read_bytes() == TEXT
    assert coming.partial.stat().st_mode & 0o777 == 0o600


def test_what_is_here_already_is_skipped_and_what_would_leave_a_gap_refused(tmp_path: Path) -> None:
    coming = upload(tmp_path)
    coming.add(coming.begin(0), 0, TEXT[:7])
    with pytest.raises(Refusal, match="a piece for byte 8, but 7 are here"):
        coming.begin(8)
    coming.add(coming.begin(3), 3, TEXT[3:])
    assert coming.is_sound()
    assert coming.carried_bytes == 7 + len(TEXT) - 3


def test_the_last_connection_that_brings_a_file_does(tmp_path: Path) -> None:
    coming = upload(tmp_path)
    first = coming.begin(0)
    coming.add(first, 0, TEXT[:7])
    second = coming.begin(7)
    with pytest.raises(Refusal, match="by another connection"):
        coming.add(first, 7, b"x")
    coming.add(second, 7, TEXT[7:])
    assert coming.is_sound()


def test_what_another_process_has_taken_is_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "coming").write_bytes(TEXT[:9])
    coming = upload(tmp_path)
    coming.add(coming.begin(9), 9, TEXT[9:])
    assert not coming.is_hashed
    assert coming.is_sound()


@pytest.mark.parametrize("begun", [b"", b"other"])
def test_another_file_is_thrown_away_and_may_come_anew(tmp_path: Path, begun: bytes) -> None:
    (tmp_path / "coming").write_bytes(begun)
    coming = upload(tmp_path)
    coming.add(coming.begin(len(begun)), len(begun), b"x" * (len(TEXT) - len(begun)))
    assert not coming.is_sound()
    assert not coming.partial.exists()
    coming.add(coming.begin(0), 0, TEXT)
    assert coming.is_sound()


def test_more_than_was_said_is_refused(tmp_path: Path) -> None:
    coming = upload(tmp_path)
    with pytest.raises(Refusal, match=f"more than the {len(TEXT)} bytes"):
        coming.add(coming.begin(0), 0, TEXT + b"x")


def test_a_link_in_the_place_of_what_comes_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "coming").symlink_to(tmp_path / "elsewhere")
    coming = upload(tmp_path)
    with pytest.raises(OSError, match="symbolic links"):
        coming.add(coming.begin(0), 0, TEXT)
    assert not (tmp_path / "elsewhere").exists()


def test_another_file_under_the_same_name_begins_anew(tmp_path: Path) -> None:
    coming: dict[str, Upload] = {}
    first = arriving(coming, "reply", tmp_path / "a", "0" * 64, 10)
    first.add(first.begin(0), 0, b"12345")
    assert arriving(coming, "reply", tmp_path / "a", "0" * 64, 10) is first
    second = arriving(coming, "reply", tmp_path / "b", DIGEST, len(TEXT))
    assert second.have_bytes == 0
    assert not (tmp_path / "a").exists()


def test_a_token_speaks_for_its_nodes_and_is_not_kept() -> None:
    beds = Caller(frozenset({"bed-0", "bed-1"}), "pi")
    callers = Callers.of_tokens({"secret": beds, "another": Caller(frozenset({"bed-2"}))})
    assert callers.behind("Bearer secret") == beds
    assert callers.behind("Bearer guess") is None
    assert callers.behind("") is None
    assert "secret" not in repr(vars(callers))
    callers.revoke("pi")
    assert callers.behind("Bearer secret") is None
    assert callers.behind("Bearer another") is not None


@pytest.mark.parametrize("text", ["", "a" * 63, "A" * 64, "a" * 64 + "\n", "../" + "a" * 61, "a" * 60 + "/../"])
def test_a_digest_is_64_hex_digits_and_nothing_else(text: str) -> None:
    assert is_digest("0123456789abcdef" * 4)
    assert not is_digest(text)
