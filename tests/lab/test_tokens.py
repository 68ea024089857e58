"""What a token carries, and what is no token."""

from __future__ import annotations

import re

import pytest

from edgebench.lab.messages import LabError
from edgebench.lab.tokens import digest_of, is_secret_of, new_token, parse_token

FINGERPRINT = bytes(range(32))


def test_a_token_needs_no_quotes_and_is_read_as_it_was_written() -> None:
    for _ in range(50):
        token = new_token(FINGERPRINT)
        assert re.fullmatch(r"e[a-z2-7]{56}", str(token))
        assert parse_token(f" {token}\n") == token


def test_a_token_says_whose_it_is() -> None:
    token = parse_token(str(new_token(FINGERPRINT)))
    assert token.is_of(FINGERPRINT)
    assert not token.is_of(bytes(32))


def test_no_two_tokens_are_alike_and_a_digest_is_of_one_secret_only() -> None:
    one, other = new_token(FINGERPRINT), new_token(FINGERPRINT)
    assert one.secret != other.secret
    assert is_secret_of(one.secret, digest_of(one.secret))
    assert not is_secret_of(other.secret, digest_of(one.secret))


@pytest.mark.parametrize("cut", [lambda text: text[:-1], lambda text: text[1:], lambda text: text + "aaaaaaaa"])
def test_what_is_no_whole_token_is_refused_without_being_repeated(cut: object) -> None:
    text = cut(str(new_token(FINGERPRINT)))  # type: ignore[operator]
    with pytest.raises(LabError, match="no whole token of a lab") as raised:
        parse_token(text)
    assert text not in str(raised.value)
    for other in ("", "e", "not a token", "é" * 57):
        with pytest.raises(LabError, match="no whole token"):
            parse_token(other)
