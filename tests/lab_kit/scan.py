"""Which ports of a machine are open, as another machine sees it. A program of its own, for Python alone:

    python scan.py ADDRESS

prints a list of objects: `port`; `tls`, the version of a handshake that may choose (null where there is none);
`old_tls`, whether one that knows nothing newer than TLS 1.2 succeeds; `plain`, what a request without TLS gets back.
"""

from __future__ import annotations

import contextlib
import errno
import json
import socket
import ssl
import sys
from typing import Any

_PORTS = range(1, 1 << 16)
_PATIENCE_S = 3.0


def open_ports(address: str) -> list[int]:
    """All TCP ports that take a connection."""
    return [port for port in _PORTS if _takes(address, port)]


def _takes(address: str, port: int) -> bool:
    with socket.socket() as dialled:
        dialled.settimeout(_PATIENCE_S)
        status = dialled.connect_ex((address, port))
    if status not in (0, errno.ECONNREFUSED):
        raise OSError(status, f"{address}:{port}")
    return status == 0


def tls_version(address: str, port: int, *, newest: ssl.TLSVersion) -> str | None:
    """The version of TLS that a handshake ends with; none where it fails."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = newest
    with contextlib.suppress(OSError):
        plain = socket.create_connection((address, port), _PATIENCE_S)
        with context.wrap_socket(plain) as secured:
            return secured.version()
    return None


def plain_answer(address: str, port: int) -> str:
    """What comes back to a request without TLS. A TLS alert is none."""
    with contextlib.suppress(OSError), socket.create_connection((address, port), _PATIENCE_S) as plain:
        plain.settimeout(_PATIENCE_S)
        plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
        said = plain.recv(256)
        return "" if said[:1] == b"\x15" else said.decode("latin-1")
    return ""


def look(address: str) -> list[dict[str, Any]]:
    """Everything that is open there."""
    return [
        {
            "port": port,
            "tls": tls_version(address, port, newest=ssl.TLSVersion.MAXIMUM_SUPPORTED),
            "old_tls": tls_version(address, port, newest=ssl.TLSVersion.TLSv1_2) is not None,
            "plain": plain_answer(address, port),
        }
        for port in open_ports(address)
    ]


if __name__ == "__main__":
    print(json.dumps(look(sys.argv[1])))
