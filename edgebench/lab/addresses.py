"""Where a lab's server is, and where it listens, as a user writes either."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import msgspec

from edgebench.decoding import whole_number
from edgebench.lab.messages import DEFAULT_PORT, LabError

_URL_FORM = "write https://HOST:PORT, as edgebench lab invite prints it"
_LISTEN_FORM = "write HOST:PORT, HOST or :PORT"


class LabUrl(msgspec.Struct, frozen=True):
    """Where a lab's server is."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"https://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def parse_lab_url(text: str) -> LabUrl:
    """`https://HOST[:PORT]`. Raises LabError."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or parts.scheme != "https" or parts.path not in ("", "/") or parts.query or parts.username:
        raise LabError(f"{text}: no address of a lab ({_URL_FORM})")
    return LabUrl(host, port or DEFAULT_PORT)


class Listen(msgspec.Struct, frozen=True):
    """An address of this computer (empty: all that it has of IPv4), and a port (0: any that is free)."""

    host: str
    port: int


def parse_listen(text: str) -> Listen:
    """`HOST:PORT`, `HOST` or `:PORT`. Raises LabError."""
    host, colon, port = text.rpartition(":")
    if not colon or "]" in port:
        host, port = text, str(DEFAULT_PORT)
    host = host.removeprefix("[").removesuffix("]")
    number = whole_number(port)
    if number is None or number > 65_535:
        raise LabError(f"--listen {text}: no port ({_LISTEN_FORM})")
    try:
        if host and ipaddress.ip_address(host) == ipaddress.ip_address("::"):
            mend = f"name one of its addresses, or write :{number}, which is all that it has of IPv4"
            raise LabError(f"--listen {text}: nobody could be told where that is ({mend})")
    except ValueError:
        raise LabError(f"--listen {text}: {host!r} is no IP address of this computer ({_LISTEN_FORM})") from None
    return Listen(host, number)
