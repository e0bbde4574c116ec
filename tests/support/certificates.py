"""Certificates as a team brings them: of its own authority, of today or of another day."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Given:
    """A server's certificate and key, as files, with the authority's own that vouches for it."""

    certificate: Path
    key: Path
    authority: Path

    @property
    def settings(self) -> dict[str, str]:
        return {"LEASING_TLS_CERTIFICATE": str(self.certificate), "LEASING_TLS_KEY": str(self.key)}


def issue(folder: Path, *, begins: timedelta = -DAY, ends: timedelta = 30 * DAY) -> Given:
    """For localhost and 127.0.0.1, valid between two times counted from now."""
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _name("a company's authority")
    now = datetime.now(UTC)
    root = (
        _builder(authority, authority, authority_key, now - 400 * DAY, now + 400 * DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    leaf = (
        _builder(_name("a company's server"), authority, key, now + begins, now + ends)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    given = Given(folder / "server.crt", folder / "server.key", folder / "authority.crt")
    given.certificate.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    given.authority.write_bytes(root.public_bytes(serialization.Encoding.PEM))
    given.key.write_bytes(_pem(key, serialization.NoEncryption()))
    return given


def locked(given: Given, passphrase: bytes) -> None:
    """Lock the key, as openssl does when nobody says otherwise."""
    key = serialization.load_pem_private_key(given.key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    given.key.write_bytes(_pem(key, serialization.BestAvailableEncryption(passphrase)))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, begins: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(key: ec.EllipticCurvePrivateKey, locking: serialization.KeySerializationEncryption) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locking)
