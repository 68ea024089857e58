"""Where a broker is, as a user writes it: `mqtt://user:password@host:1883` or `mqtts://host`; and where the cloud is.

Between parts of a run `?name=` may follow: the name that the certificate has to hold, where that is not the host, since
an emulated link stands between, and what listens there is its relay.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from edgebench.errors import FabricError

Address = tuple[int, Any]
"""Family, and what `socket.connect` takes."""

_DEFAULT_PORT = {"mqtt": 1883, "mqtts": 8883}
_FORM = "mqtt://[user:password@]host[:port], or mqtts:// for TLS"
_NAME = "?name="
_LONGEST_PART = 63
_ENDS_A_LOGIN = {"/": "%2F", "?": "%3F", "#": "%23", "[": "%5B", "]": "%5D"}
"""What may not stand in a login as it is, and what to write for it."""


@dataclass(frozen=True)
class BrokerUrl:
    """The parts of a broker's URL. Neither `repr` nor `shown` tells the password.

    server_name: which the broker's certificate has to hold; None: the host.
    """

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    server_name: str | None = None

    @property
    def url(self) -> str:
        """The URL in full, with the password: for handing on to a part of the run, not for showing."""
        return self._written(self.password) + _named(self.server_name)

    @property
    def shown(self) -> str:
        """The URL for logs and reports, with `***` in the password's place."""
        return self._written(None if self.password is None else "***")

    @property
    def at(self) -> str:
        """`host:port`."""
        return _at(self.host, self.port)

    def _written(self, password: str | None) -> str:
        login = ""
        if self.username is not None:
            login = quote(self.username, safe="")
            if password is not None:
                login += ":" + quote(password, safe="*")
            login += "@"
        return f"{'mqtts' if self.tls else 'mqtt'}://{login}{self.at}"


@dataclass(frozen=True)
class HttpUrl:
    """The parts of the URL of a control plane. server_name: as a `BrokerUrl` has it."""

    host: str
    port: int
    tls: bool = False
    server_name: str | None = None

    @property
    def url(self) -> str:
        """The URL in full, for handing on to a part of the run."""
        return self.shown + _named(self.server_name)

    @property
    def shown(self) -> str:
        """The URL for logs and messages."""
        return f"{'https' if self.tls else 'http'}://{_at(self.host, self.port)}"


def parse_http_url(url: str) -> HttpUrl:
    """What `HttpUrl.url` has written; the port is 80 or 443 unless given. Raises FabricError."""
    bare, _, name = url.partition(_NAME)
    try:
        parts = urlsplit(bare)
        port = parts.port
    except ValueError as error:
        raise FabricError(f"URL {url!r}: {error} (write http://host:port)") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query or parts.fragment:
        raise FabricError(f"URL {url!r}: no base of HTTP (write http://host:port, or https:// for TLS)")
    tls = parts.scheme == "https"
    return HttpUrl(parts.hostname, (443 if tls else 80) if port is None else port, tls, unquote(name) or None)


def parse_own_broker_url(url: str) -> BrokerUrl:
    """What `BrokerUrl.url` has written. Raises FabricError."""
    bare, _, name = url.partition(_NAME)
    return replace(parse_broker_url(bare), server_name=unquote(name) or None)


def parse_broker_url(url: str) -> BrokerUrl:
    """The parts of `mqtt://…` or `mqtts://…`; the port is 1883 or 8883 unless given, escapes (`%40`) are undone.

    Raises FabricError, whose message never repeats the login.
    """
    login = url.partition("://")[2].rpartition("@")[0]
    raw = [character for character in _ENDS_A_LOGIN if character in login]
    if raw:
        mend = ", ".join(f"{_ENDS_A_LOGIN[character]} for {character}" for character in raw)
        raise FabricError(f"broker URL: a '{raw[0]}' in the user or password ends them there (write {mend})")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise FabricError(f"broker URL: the host or port cannot be read (write {_FORM})") from None
    shown = f"{parts.scheme}://…{url.rpartition('@')[2]}" if "@" in url else url
    if parts.scheme not in _DEFAULT_PORT:
        raise FabricError(f"broker URL {shown!r}: the scheme is neither mqtt nor mqtts (write {_FORM})")
    if not parts.hostname:
        raise FabricError(f"broker URL {shown!r}: no host (write {_FORM})")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise FabricError(f"broker URL {shown!r}: nothing may follow the port (write {_FORM})")
    if port == 0:
        raise FabricError(f"broker URL {shown!r}: port 0 (write {_FORM})")
    if parts.password is not None and not parts.username:
        raise FabricError(f"broker URL {shown!r}: a password but no user (write {_FORM})")
    try:
        encoded_host(parts.hostname)
    except UnicodeError:
        raise FabricError(
            f"broker URL {shown!r}: no host has such a name, of which a part between dots is empty or longer than 63 "
            f"characters (write {_FORM})"
        ) from None
    return BrokerUrl(
        host=parts.hostname,
        port=port if port is not None else _DEFAULT_PORT[parts.scheme],
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password is not None else None,
        tls=parts.scheme == "mqtts",
    )


def _at(host: str, port: int) -> str:
    return f"{f'[{host}]' if ':' in host else host}:{port}"


def _named(server_name: str | None) -> str:
    return "" if server_name is None else _NAME + quote(server_name, safe="")


def encoded_host(host: str) -> bytes:
    """A host's name as a resolver takes it. Raises UnicodeError where it can be none: a part between dots is empty or
    too long.

    Python takes any name through IDNA, whose tables are a quarter of a megabyte that hardly a node has a use for.
    """
    if not host.isascii():
        return host.encode("idna")
    *parts, last = host.split(".")
    if not all(0 < len(part) <= _LONGEST_PART for part in parts) or len(last) > _LONGEST_PART:
        raise UnicodeError(f"a part of '{host}' is empty or too long")
    return host.encode("ascii")


def addresses_of(host: str, port: int, flags: int = 0) -> list[Address]:
    """The TCP addresses of a host; flags: as `socket.getaddrinfo` takes them. Raises OSError where there is none."""
    try:
        found = socket.getaddrinfo(encoded_host(host), port, type=socket.SOCK_STREAM, flags=flags)
    except UnicodeError as error:  # a part between dots is empty or too long
        raise OSError(f"'{host}' can be no host's name: {error}") from error
    return [(family, address) for family, _, _, _, address in found]
