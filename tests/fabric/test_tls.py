"""Who gets in by TLS, and who does not: handshakes between real contexts, without a socket between them."""

from __future__ import annotations

import datetime as dt
import ssl
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import CertificateSigningRequestBuilder, Name

from edgebench.clock import utc_now
from edgebench.errors import FabricError
from edgebench.fabric.authority import Authority, fingerprint_of, key_pem, make_key, make_request, valid_until
from edgebench.fabric.tls import (
    Peer,
    Trust,
    client_context,
    peer_of,
    renew,
    server_context,
    tls_name,
    trust_from_environment,
    trust_in,
    write_private,
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("lab") / "authority")


@pytest.fixture(scope="module")
def ward(lab: Authority, tmp_path_factory: pytest.TempPathFactory) -> Trust:
    return lab.issue(tmp_path_factory.mktemp("ward"), "ward")


@pytest.fixture(scope="module")
def bed(lab: Authority, tmp_path_factory: pytest.TempPathFactory) -> Trust:
    return lab.issue(tmp_path_factory.mktemp("bed"), "bed", ["192.0.2.7"])


def shaken(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> ssl.SSLObject:
    """The server's end of a connection after the handshake. Raises ssl.SSLError of whichever end refuses."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(down, up, server_hostname=name), server.wrap_bio(up, down, server_side=True)]
    for _ in range(5):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends[1]


def test_machines_of_a_lab_know_each_other_by_name_and_speak_tls_1_3(ward: Trust, bed: Trust) -> None:
    end = shaken(
        server_context(ward, require_client_certificate=True), client_context(bed, mutual=True), tls_name("ward")
    )
    assert end.version() == "TLSv1.3"
    peer = peer_of(end.getpeercert())
    assert peer is not None
    assert peer.machine == "bed"


def test_the_serial_that_was_issued_is_the_one_that_a_peer_shows(lab: Authority, ward: Trust, tmp_path: Path) -> None:
    key = make_key()
    issued = lab.sign(make_request(key), "bed", days=2)
    trust = trust_in(tmp_path)
    trust.ca_file.write_bytes(lab.pem)
    trust.certificate_file.write_bytes(issued.pem)
    trust.key_file.write_bytes(key_pem(key))
    end = shaken(
        server_context(ward, require_client_certificate=True), client_context(trust, mutual=True), tls_name("ward")
    )
    assert peer_of(end.getpeercert()) == Peer("bed", issued.serial)
    assert valid_until(issued.pem) == issued.until
    assert abs(issued.until - utc_now() - dt.timedelta(days=2)) < dt.timedelta(minutes=1)


def test_a_machine_is_not_taken_for_another(ward: Trust, bed: Trust) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shaken(server_context(bed, require_client_certificate=True), client_context(bed, mutual=True), tls_name("ward"))


def test_who_shows_no_certificate_is_refused_where_one_is_required(ward: Trust, bed: Trust) -> None:
    stranger = client_context(bed, mutual=False)
    with pytest.raises(ssl.SSLError, match="did not return a certificate"):
        shaken(server_context(ward, require_client_certificate=True), stranger, tls_name("ward"))
    end = shaken(server_context(ward, require_client_certificate=False), stranger, tls_name("ward"))
    assert peer_of(end.getpeercert()) is None


def test_a_certificate_of_another_lab_is_refused_by_either_end(ward: Trust, bed: Trust, tmp_path: Path) -> None:
    others = Authority.create(tmp_path / "authority").issue(tmp_path / "machine", "bed")
    trusting = Trust(ward.ca_file, others.certificate_file, others.key_file)
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        shaken(
            server_context(ward, require_client_certificate=True),
            client_context(trusting, mutual=True),
            tls_name("ward"),
        )
    with pytest.raises(ssl.SSLCertVerificationError, match="self-signed certificate in certificate chain"):
        shaken(server_context(others, require_client_certificate=True), client_context(bed, mutual=True), "bed")


def test_an_expired_certificate_is_refused(lab: Authority, ward: Trust, tmp_path: Path) -> None:
    late = lab.issue(tmp_path, "bed", days=-0.5)
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate has expired"):
        shaken(
            server_context(ward, require_client_certificate=True), client_context(late, mutual=True), tls_name("ward")
        )


def test_an_older_tls_is_refused(ward: Trust, bed: Trust) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(bed.ca_file)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol"):
        shaken(server_context(ward, require_client_certificate=False), old, tls_name("ward"))


def test_a_renewed_certificate_is_shown_from_the_next_connection_on(
    lab: Authority, ward: Trust, tmp_path: Path
) -> None:
    bed = lab.issue(tmp_path, "bed")
    mine = client_context(bed, mutual=True)
    server = server_context(ward, require_client_certificate=True)
    before = peer_of(shaken(server, mine, tls_name("ward")).getpeercert())
    lab.issue(tmp_path, "bed")
    renew(mine, bed)
    after = peer_of(shaken(server, mine, tls_name("ward")).getpeercert())
    assert before is not None
    assert after is not None
    assert before.serial != after.serial


def test_a_request_is_taken_for_its_key_alone_and_that_must_be_a_sound_one(lab: Authority) -> None:
    request = CertificateSigningRequestBuilder().subject_name(Name([]))
    weak = request.sign(rsa.generate_private_key(65537, 2048), hashes.SHA256())
    other = request.sign(ec.generate_private_key(ec.SECP384R1()), hashes.SHA256())
    for bad in (weak, other):
        with pytest.raises(FabricError, match=r"not signed by a key of the curve P-256"):
            lab.sign(_pem(bad), "bed")
    with pytest.raises(FabricError, match="cannot be read"):
        lab.sign(b"-----BEGIN CERTIFICATE REQUEST-----\n", "bed")


def _pem(request: object) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return request.public_bytes(Encoding.PEM)  # type: ignore[attr-defined]


def test_an_authority_is_the_same_when_it_is_loaded_and_no_other(tmp_path: Path) -> None:
    made = Authority.create(tmp_path / "one")
    assert Authority.load(tmp_path / "one").fingerprint == made.fingerprint == fingerprint_of(made.pem)
    Authority.create(tmp_path / "two")
    (tmp_path / "one" / "ca.key").write_bytes((tmp_path / "two" / "ca.key").read_bytes())
    with pytest.raises(FabricError, match=r"ca\.key is not the key of ca\.pem"):
        Authority.load(tmp_path / "one")
    with pytest.raises(FabricError, match="no certificate of an authority"):
        Authority.load(tmp_path)


def test_keys_are_for_their_owner_alone(lab: Authority, ward: Trust, tmp_path: Path) -> None:
    (tmp_path / "key").touch(mode=0o644)
    write_private(tmp_path / "key", b"secret")
    for file in (ward.key_file, tmp_path / "key"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(ward.folder.stat().st_mode) == 0o700


def test_a_process_finds_its_files_by_the_environment(
    ward: Trust, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGEBENCH_TRUST", raising=False)
    assert trust_from_environment() is None
    monkeypatch.setenv("EDGEBENCH_TRUST", str(ward.folder))
    assert trust_from_environment() == ward
    monkeypatch.setenv("EDGEBENCH_TRUST", str(tmp_path))
    with pytest.raises(FabricError, match=r"ca\.pem is not there"):
        trust_from_environment()


def test_files_that_are_no_certificates_are_named(lab: Authority, tmp_path: Path) -> None:
    trust = lab.issue(tmp_path, "bed")
    trust.certificate_file.write_bytes(b"nothing")
    with pytest.raises(FabricError, match=r"machine\.pem.*no certificate with its key"):
        client_context(trust, mutual=True)
    trust.ca_file.write_bytes(b"nothing")
    with pytest.raises(FabricError, match=r"ca\.pem: no certificate of an authority"):
        client_context(trust, mutual=False)
