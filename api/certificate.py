"""A certificate of our own, for a team that has none: made once, known by its fingerprint."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from leasing.settings.core import CoreSettings

LASTS = timedelta(days=825)


def ensure(settings: CoreSettings) -> tuple[Path, Path]:
    """(certificate, key): the given ones, or ours, made now if there is none yet."""
    if settings.tls_certificate is not None and settings.tls_key is not None:
        return settings.tls_certificate, settings.tls_key
    certificate, key = settings.state_dir / "tls.crt", settings.state_dir / "tls.key"
    if not (certificate.exists() and key.exists()):
        _make(
            certificate, key, [settings.host, settings.listen, socket.gethostname(), "localhost", "127.0.0.1"]
        )
    return certificate, key


def fingerprint(certificate: Path) -> str:
    """SHA-256 of the certificate, as `lease login` shows and keeps it."""
    found = x509.load_pem_x509_certificate(certificate.read_bytes())
    return hashlib.sha256(found.public_bytes(serialization.Encoding.DER)).hexdigest()


def _make(certificate: Path, key_file: Path, names: list[str]) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "leasing")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + LASTS)
        .add_extension(
            x509.SubjectAlternativeName([_name(one) for one in dict.fromkeys(names)]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    handle = os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(secret)
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
