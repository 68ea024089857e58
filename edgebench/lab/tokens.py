"""Tokens by which a machine gets into a lab: a secret that serves once, and whom to trust at the first contact."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import NamedTuple

from edgebench.lab.messages import LabError

_MARK = "e"
_SECRET_BYTES = 15
_FINGERPRINT_BYTES = 20
"""Of SHA-256. Both are multiples of five bytes, which are eight characters in base 32 each."""

HOW_TO_GET = "get one by `edgebench lab invite`, on the lab's server"


class Token(NamedTuple):
    """secret: that only the server and who was invited know. fingerprint: the beginning of the authority's."""

    secret: bytes
    fingerprint: bytes

    def __str__(self) -> str:
        return _MARK + base64.b32encode(self.secret + self.fingerprint).decode().lower()

    def is_of(self, fingerprint: bytes) -> bool:
        """Whether this is the authority that the token is of."""
        return hmac.compare_digest(self.fingerprint, fingerprint[:_FINGERPRINT_BYTES])


def new_token(fingerprint: bytes) -> Token:
    """With a secret of its own. fingerprint: of the lab's authority."""
    return Token(secrets.token_bytes(_SECRET_BYTES), fingerprint[:_FINGERPRINT_BYTES])


def parse_token(text: str) -> Token:
    """What `str(token)` has written. Raises LabError, which does not repeat it."""
    try:
        data = base64.b32decode(text.strip().removeprefix(_MARK).upper())
    except ValueError:
        data = b""
    if len(data) != _SECRET_BYTES + _FINGERPRINT_BYTES or not text.strip().startswith(_MARK):
        raise LabError(f"--token: is no whole token of a lab ({HOW_TO_GET})")
    return Token(data[:_SECRET_BYTES], data[_SECRET_BYTES:])


def digest_of(secret: bytes) -> bytes:
    """What the server keeps of a secret."""
    return hashlib.sha256(secret).digest()


def is_secret_of(secret: bytes, digest: bytes) -> bool:
    """Whether it is the one, in a time that does not tell how near it is."""
    return hmac.compare_digest(digest_of(secret), digest)
