"""The certificate authority of a lab: who it vouches for can connect to everybody else that it vouches for.

Keys are of the curve P-256. It takes a public key from a request, and nothing else: what the certificate says is the
authority's own word.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edgebench.clock import utc_now
from edgebench.errors import FabricError
from edgebench.fabric.tls import Trust, private_folder, tls_name, trust_in, write_private

MACHINE_DAYS = 90.0
"""How long a certificate is good for that renews itself while its machine is joined."""

_AUTHORITY_DAYS = 3650.0
_LEEWAY = dt.timedelta(days=1)
"""A certificate is good from this long before it was made: the clock of a board may be behind."""


@dataclass(frozen=True)
class Issued:
    """A certificate. serial: hexadecimal, as `ssl` writes it."""

    pem: bytes
    serial: str
    until: dt.datetime


class Authority:
    """Made by `create` or `load`. Its key never leaves the folder."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @staticmethod
    def create(folder: Path) -> Authority:
        """A new one: `ca.pem` and `ca.key` in the folder, which is made."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(f"edgebench lab {secrets.token_hex(4)}")
        certificate = (
            _builder(name, name, key.public_key(), _AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(authority=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        private_folder(folder)
        write_private(folder / "ca.key", key_pem(key))
        write_private(folder / "ca.pem", certificate.public_bytes(Encoding.PEM))
        return Authority(certificate, key)

    @staticmethod
    def load(folder: Path) -> Authority:
        """The one in a folder. Raises FabricError where there is none, or its files are damaged."""
        try:
            certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        except (OSError, ValueError) as error:
            raise FabricError(f"{folder / 'ca.pem'}: no certificate of an authority: {error}") from error
        key = read_key(folder / "ca.key")
        if certificate.public_key() != key.public_key():
            raise FabricError(f"{folder}: ca.key is not the key of ca.pem")
        return Authority(certificate, key)

    @property
    def pem(self) -> bytes:
        """Its certificate."""
        return self._certificate.public_bytes(Encoding.PEM)

    @property
    def fingerprint(self) -> bytes:
        """See `fingerprint_of`."""
        return fingerprint_of(self.pem)

    def sign(
        self, request_pem: bytes, machine: str, addresses: Sequence[str] = (), *, days: float = MACHINE_DAYS
    ) -> Issued:
        """A certificate for the key in a request, with the name of the machine and these IP addresses.

        Raises FabricError where the request is damaged, or of another kind of key.
        """
        return self._certify(_requested(request_pem), machine, [tls_name(machine)], addresses, days)

    def issue(
        self,
        folder: Path,
        machine: str,
        addresses: Sequence[str] = (),
        *,
        host_names: Sequence[str] = (),
        days: float = MACHINE_DAYS,
    ) -> Trust:
        """All files of a machine, the key included, for one that does not ask by itself: this one, or a test's.

        host_names: further names that the certificate is good for.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        issued = self._certify(key.public_key(), machine, [tls_name(machine), *host_names], addresses, days)
        trust = trust_in(private_folder(folder))
        write_private(trust.key_file, key_pem(key))
        write_private(trust.certificate_file, issued.pem)
        write_private(trust.ca_file, self.pem)
        return trust

    def _certify(
        self,
        key: ec.EllipticCurvePublicKey,
        machine: str,
        host_names: Sequence[str],
        addresses: Sequence[str],
        days: float,
    ) -> Issued:
        names = [*map(x509.DNSName, host_names), *(x509.IPAddress(ipaddress.ip_address(each)) for each in addresses)]
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            _builder(_name(machine), self._certificate.subject, key, days)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(authority, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        pem = certificate.public_bytes(Encoding.PEM)
        return Issued(pem, serial_of(certificate), certificate.not_valid_after_utc)


def make_request(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A certificate request, PEM, by which a machine shows that a key is its own."""
    request = x509.CertificateSigningRequestBuilder().subject_name(_name("machine")).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.PEM)


def make_key() -> ec.EllipticCurvePrivateKey:
    """Of the curve P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def requested_key(request_pem: bytes) -> bytes:
    """The public key of a request, DER. Raises FabricError as `Authority.sign` does."""
    return _requested(request_pem).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """As it stands in a file; not encrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_key(file: Path) -> ec.EllipticCurvePrivateKey:
    """What `key_pem` has written. Raises FabricError where the file holds none."""
    try:
        key = load_pem_private_key(file.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise FabricError(f"{file}: no key: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise FabricError(f"{file}: no key of the curve P-256")
    return key


def fingerprint_of(certificate_pem: bytes) -> bytes:
    """SHA-256 of a certificate. Raises FabricError where it is none."""
    try:
        return hashlib.sha256(_read(certificate_pem).public_bytes(Encoding.DER)).digest()
    except ValueError as error:
        raise FabricError(f"no certificate: {error}") from error


def valid_until(certificate_pem: bytes) -> dt.datetime:
    """When a certificate expires."""
    return _read(certificate_pem).not_valid_after_utc


def serial_of(certificate: x509.Certificate) -> str:
    """Hexadecimal, as `ssl` writes it: in whole bytes."""
    number = certificate.serial_number
    return number.to_bytes((number.bit_length() + 7) // 8, "big").hex().upper()


def _requested(request_pem: bytes) -> ec.EllipticCurvePublicKey:
    try:
        request = x509.load_pem_x509_csr(request_pem)
        key = request.public_key()
        sound = request.is_signature_valid
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise FabricError(f"the certificate request cannot be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1) or not sound:
        raise FabricError("the certificate request is not signed by a key of the curve P-256")
    return key


def _read(certificate_pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(certificate_pem)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: float
) -> x509.CertificateBuilder:
    now = utc_now()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _LEEWAY)
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
