"""TLS between the machines of a lab: the files by which one trusts another, and the contexts that come of them.

TLS 1.3 only, by the lab's own authority and no other. A machine is known by the name in its certificate, not by the
address at which it is reached: addresses change, and relays stand between. A process of a run on a machine of a lab
finds its files by the variable EDGEBENCH_TRUST; without it everything is plain, and on loopback.
"""

from __future__ import annotations

import errno
import http.client
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from edgebench.errors import FabricError

TRUST_VARIABLE = "EDGEBENCH_TRUST"
"""Names the folder with ca.pem, machine.pem and machine.key. A path is no secret."""

_DOMAIN = ".edgebench.internal"


@dataclass(frozen=True)
class Trust:
    """Files, PEM: the certificate of the authority, and a certificate that it has issued with the key of that."""

    ca_file: Path
    certificate_file: Path
    key_file: Path

    @property
    def folder(self) -> Path:
        """What EDGEBENCH_TRUST names."""
        return self.ca_file.parent


class Peer(NamedTuple):
    """Who is at the other end, by its certificate. serial: of the certificate, hexadecimal."""

    machine: str
    serial: str


class _Socket(ssl.SSLSocket):
    """Python's own, but closed where the peer has broken off before the handshake, which Python leaves open."""

    def getpeername(self) -> Any:
        """The other end's address, for which it is asked as it is made. Raises OSError."""
        try:
            return super().getpeername()
        except OSError as error:
            if self.version() is not None:
                raise
            self.close()
            if error.errno != errno.ENOTCONN:
                raise
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)) from None


class HttpsConnection(http.client.HTTPSConnection):
    """A connection to a host whose certificate must bear another name than the host's. No proxy stands in its way,
    whatever the environment says."""

    def __init__(self, host: str, port: int, *, context: ssl.SSLContext, server_name: str, timeout_s: float) -> None:
        super().__init__(host, port, context=context, timeout=timeout_s)
        self._trusting = context
        self._server_name = server_name

    def connect(self) -> None:
        """Open it, and make sure who answers. Raises OSError, of which ssl.SSLError is one."""
        http.client.HTTPConnection.connect(self)
        self.sock = self._trusting.wrap_socket(self.sock, server_hostname=self._server_name)


def tls_name(machine: str) -> str:
    """What the certificate of a machine says."""
    return machine + _DOMAIN


def trust_in(folder: Path) -> Trust:
    """The files in a folder, which may not be there yet."""
    return Trust(folder / "ca.pem", folder / "machine.pem", folder / "machine.key")


def trust_from_environment() -> Trust | None:
    """Of a process on a machine of a lab; None: everything is plain. Raises FabricError where a file is absent."""
    folder = os.environ.get(TRUST_VARIABLE)
    if not folder:
        return None
    trust = trust_in(Path(folder))
    for file in (trust.ca_file, trust.certificate_file, trust.key_file):
        if not file.is_file():
            raise FabricError(f"{TRUST_VARIABLE}={folder}: {file.name} is not there (name a folder that has it)")
    return trust


def client_context(trust: Trust, *, mutual: bool) -> ssl.SSLContext:
    """For connections outwards: chain and name are verified. mutual: show the certificate, too.

    Reads the files: make one for all connections of a process. Raises FabricError where they are of no use.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT, trust)
    if mutual:
        _show(context, trust)
    return context


def server_context(trust: Trust, *, require_client_certificate: bool) -> ssl.SSLContext:
    """For connections inwards. Raises FabricError where the files are of no use."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, trust)
    _show(context, trust)
    # A session that is taken up again would not ask for the certificate that may have been removed meanwhile.
    context.num_tickets = 0
    context.verify_mode = ssl.CERT_REQUIRED if require_client_certificate else ssl.CERT_NONE
    return context


def context_to(server_name: str, trust: Trust | None = None) -> ssl.SSLContext:
    """For connections outwards to who bears this name; made once. A machine of a lab is vouched for by the lab's
    authority, and is shown this one's certificate; anybody else by an authority that the system knows.

    trust: None for that of the environment. Raises FabricError.
    """
    if not server_name.endswith(_DOMAIN):
        return _of_the_system()
    trust = trust or trust_from_environment()
    if trust is None:
        raise FabricError(f"{server_name}: is a machine of a lab, and {TRUST_VARIABLE} names nobody who vouches for it")
    return _of_the_lab(trust)


@cache
def _of_the_system() -> ssl.SSLContext:
    context = ssl.create_default_context()  # reading the certificates takes some 20 ms
    context.sslsocket_class = _Socket
    return context


@cache
def _of_the_lab(trust: Trust) -> ssl.SSLContext:
    return client_context(trust, mutual=True)


def renew(context: ssl.SSLContext, trust: Trust) -> None:
    """Show the certificate that is in the files now, from the next connection on; so does `context_to`."""
    _show(context, trust)
    _of_the_lab.cache_clear()


def peer_of(certificate: Mapping[str, Any] | None) -> Peer | None:
    """The machine behind what `SSLSocket.getpeercert()` gives; None where it has shown none, or none of a machine."""
    if not certificate:
        return None
    for kind, name in certificate.get("subjectAltName", ()):
        if kind == "DNS" and name.endswith(_DOMAIN):
            return Peer(name.removesuffix(_DOMAIN), certificate["serialNumber"])
    return None


def write_private(path: Path, data: bytes) -> None:
    """Write a file that its owner alone can read, from its first moment on; whole, on the disk, or not at all."""
    partial = path.with_name(f"{path.name}.part")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def private_folder(path: Path) -> Path:
    """A folder that is there, for its owner alone."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def _context(protocol: int, trust: Trust) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.sslsocket_class = _Socket
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        context.load_verify_locations(cafile=trust.ca_file)
    except OSError as error:
        raise FabricError(f"{trust.ca_file}: no certificate of an authority: {error.strerror or error}") from error
    return context


def _show(context: ssl.SSLContext, trust: Trust) -> None:
    try:
        context.load_cert_chain(trust.certificate_file, trust.key_file)
    except OSError as error:
        what = f"{trust.certificate_file}, {trust.key_file}"
        raise FabricError(f"{what}: no certificate with its key: {error.strerror or error}") from error
