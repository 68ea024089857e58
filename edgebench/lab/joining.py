"""How a machine gets into a lab, and what it keeps of that: its key, its certificate, and where the lab is."""

from __future__ import annotations

import contextlib
import fcntl
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from edgebench.clock import utc_now
from edgebench.decoding import from_json
from edgebench.errors import FabricError
from edgebench.fabric.authority import fingerprint_of, key_pem, make_key, make_request, read_key, valid_until
from edgebench.fabric.tls import Trust, client_context, private_folder, trust_in, write_private
from edgebench.lab.addresses import LabUrl, parse_lab_url
from edgebench.lab.connection import LabConnection
from edgebench.lab.facts import facts_of_this_machine, name_of_this_machine
from edgebench.lab.messages import (
    Introduction,
    Joined,
    JoinRequest,
    LabError,
    PassingError,
    RemovedError,
    Role,
    check_name,
)
from edgebench.lab.places import machine_folder
from edgebench.lab.tokens import HOW_TO_GET, parse_token

_MOST_BEHIND_S = 20 * 3600.0
"""A certificate is good from a day before it was made."""
_MOST_AHEAD_S = 20 * 86_400.0
"""A certificate is renewed this long before it expires, and earlier."""


class Identity(msgspec.Struct, frozen=True):
    """Which lab this machine is in, and as what."""

    url: LabUrl
    name: str
    role: Role

    @property
    def trust(self) -> Trust:
        """Its certificate and its key."""
        return trust_in(machine_folder())


def kept_identity() -> Identity | None:
    """The one that this machine has; None where it is in no lab. Raises LabError where it is damaged."""
    file = _identity_file()
    try:
        return from_json(file.read_bytes(), Identity)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise LabError(f"{file}: cannot be read: {error} (remove it, and join with a token)") from error


def known_in(url: str) -> Identity:
    """The identity by which this machine joins again. Raises LabError where it has none for this lab, or it expired."""
    identity = kept_identity()
    if identity is None:
        raise LabError(f"{url}: this machine is in no lab yet: join with --token ({HOW_TO_GET})")
    asked = parse_lab_url(url)
    if asked != identity.url:
        # It may have another address by now; that it is the same lab, its certificate has to show.
        identity = msgspec.structs.replace(identity, url=asked)
        _keep(identity)
    if has_expired(identity):
        raise LabError(f"{url}: this machine's certificate has expired: join with --token ({HOW_TO_GET})")
    return identity


def has_expired(identity: Identity) -> bool:
    """Whether its certificate is of no use any more."""
    return valid_until(identity.trust.certificate_file.read_bytes()) < utc_now()


def join(url: str, token: str, name: str | None) -> Identity:
    """Get in by a token. name: None for the host's, with a number after it where it is taken.

    Raises LabError in a line that says how to mend it.
    """
    lab, parsed = parse_lab_url(url), parse_token(token)
    if name is not None:
        check_name(name)
    introduction = _introduced(lab)
    if not parsed.is_of(fingerprint_of(introduction.authority)):
        raise LabError(f"{lab}: the token is of another lab than the one there ({HOW_TO_GET} there)")
    _check_clock(lab, introduction.now_s)
    folder = private_folder(machine_folder())
    # Its key is kept before it is asked for: should the answer get lost, the same token serves the same key again.
    key_file, authority_file = folder / "joining.key", folder / "joining.ca"
    if not key_file.exists():
        write_private(key_file, key_pem(make_key()))
    write_private(authority_file, introduction.authority)
    trusting = client_context(Trust(authority_file, key_file, key_file), mutual=False)
    with contextlib.closing(LabConnection(lab, trusting)) as connection:
        joined = connection.ask(
            "POST",
            "/v1/join",
            Joined,
            JoinRequest(
                parsed.secret,
                make_request(read_key(key_file)),
                name or name_of_this_machine(),
                name is not None,
                facts_of_this_machine(),
            ),
        )
    identity = Identity(lab, joined.name, joined.role)
    trust = identity.trust
    _identity_file().unlink(missing_ok=True)
    write_private(trust.certificate_file, joined.certificate)
    key_file.replace(trust.key_file)
    authority_file.replace(trust.ca_file)
    _keep(identity)
    return identity


@contextmanager
def only_process() -> Iterator[None]:
    """As long as this lasts, no other process of this computer joins by the same identity. Raises LabError."""
    folder = private_folder(machine_folder())
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PassingError(
                f"{folder}: another process has joined by it (end that one, or give this one another EDGEBENCH_HOME)"
            ) from None
        yield
    finally:
        os.close(lock)


def is_accepted(identity: Identity) -> bool:
    """Whether the lab still takes this machine for what it is. Raises UnheardError."""
    trust = identity.trust
    with contextlib.closing(LabConnection(identity.url, client_context(trust, mutual=True))) as connection:
        try:
            certificate = connection.ask("POST", "/v1/machine/renew", bytes, make_request(read_key(trust.key_file)))
        except RemovedError:
            return False
    write_private(trust.certificate_file, certificate)
    return True


def is_of(identity: Identity, token: str) -> bool:
    """Whether an identity is of the lab that a token is of."""
    try:
        return parse_token(token).is_of(fingerprint_of(identity.trust.ca_file.read_bytes()))
    except (OSError, FabricError):
        return False


def _introduced(lab: LabUrl) -> Introduction:
    """What a server says of itself, which anybody could: nothing is sent, and nothing of it is trusted yet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with contextlib.closing(LabConnection(lab, context)) as connection:
        return connection.ask("GET", "/v1/introduction", Introduction)


def _check_clock(lab: LabUrl, lab_s: float) -> None:
    """A board without a battery may be years behind until it has been told the time; certificates have none of it."""
    behind_s = lab_s - utc_now().timestamp()
    if not -_MOST_AHEAD_S < behind_s < _MOST_BEHIND_S:
        far = f"{abs(behind_s) / 86_400:,.1f} days {'behind' if behind_s > 0 else 'ahead of'}"
        raise LabError(f"{lab}: this machine's calendar is {far} the lab's: set it first (sudo date -s @{lab_s:.0f})")


def _keep(identity: Identity) -> None:
    write_private(_identity_file(), msgspec.json.encode(identity))


def _identity_file() -> Path:
    return machine_folder() / "identity.json"
