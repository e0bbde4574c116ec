"""The certificate: one that is given, or one of our own, made once and known by its fingerprint."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from leasing.errors import HostError
from leasing.settings.core import CoreSettings

LASTS = timedelta(days=825)
RENEWED_BEFORE = timedelta(days=30)


def check(settings: CoreSettings) -> None:
    """Refuse a given certificate that cannot serve, or half of one. Raises `HostError` saying which file and why."""
    if (given := _given(settings)) is None:
        return
    certificate, key = given
    found = _certificate(certificate)
    _must_fit(certificate, found, key)
    now = datetime.now(UTC)
    if found.not_valid_after_utc <= now:
        raise HostError(
            f"{certificate} (LEASING_TLS_CERTIFICATE) ended on {found.not_valid_after_utc:%Y-%m-%d}.",
            hint="Put a new one in its place; without one, unset both variables and one is made.",
        )
    if found.not_valid_before_utc > now:
        raise HostError(
            f"{certificate} (LEASING_TLS_CERTIFICATE) begins only on {found.not_valid_before_utc:%Y-%m-%d}.",
            hint="Look at this machine's clock (date), or put the certificate of today in its place.",
        )


def ensure(settings: CoreSettings, *, renew: bool = False) -> tuple[Path, Path]:
    """(certificate, key): the given ones, or ours, made now if there is none yet.

    `renew` is for the one process that starts the others: ours is then made anew near its end, or when it does not
    carry the address of today; its fingerprint changes with it. Raises `HostError` for half of a given one.
    """
    if (given := _given(settings)) is not None:
        return given
    certificate, key = settings.state_dir / "tls.crt", settings.state_dir / "tls.key"
    if not (certificate.exists() and key.exists()) or (renew and not _serves(certificate, key, settings)):
        _make(certificate, key, [*_named(settings), socket.gethostname(), "localhost", "127.0.0.1"])
    return certificate, key


def fingerprint(certificate: Path) -> str:
    """SHA-256 of the certificate, as `lease login` shows and keeps it."""
    found = x509.load_pem_x509_certificate(certificate.read_bytes())
    return hashlib.sha256(found.public_bytes(serialization.Encoding.DER)).hexdigest()


def _given(settings: CoreSettings) -> tuple[Path, Path] | None:
    if settings.tls_certificate is not None and settings.tls_key is not None:
        return settings.tls_certificate, settings.tls_key
    if settings.tls_certificate is not None or settings.tls_key is not None:
        missing = "LEASING_TLS_KEY" if settings.tls_key is None else "LEASING_TLS_CERTIFICATE"
        raise HostError(
            f"{missing} is missing: a certificate and its key go together.",
            hint="Set both, or neither to have one made.",
        )
    return None


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise HostError(f"{path} (LEASING_TLS_CERTIFICATE) cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise HostError(f"{path} (LEASING_TLS_CERTIFICATE) is not a certificate in PEM form.") from error


def _must_fit(certificate: Path, found: x509.Certificate, key: Path) -> None:
    try:
        secret = serialization.load_pem_private_key(key.read_bytes(), password=None)
    except OSError as error:
        raise HostError(f"{key} (LEASING_TLS_KEY) cannot be read: {error.strerror}.") from error
    except TypeError as error:
        raise HostError(
            f"{key} (LEASING_TLS_KEY) is locked by a passphrase, and nobody is there to type it at a start.",
            hint=f"Write it without one: openssl pkey -in {key} -out unlocked.key",
        ) from error
    except ValueError as error:
        raise HostError(f"{key} (LEASING_TLS_KEY) is not a private key in PEM form.") from error
    if secret.public_key() != found.public_key():
        raise HostError(
            f"{key} (LEASING_TLS_KEY) is not the key of {certificate} (LEASING_TLS_CERTIFICATE).",
            hint="In a file with a chain the server's own certificate comes first.",
        )
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        raise HostError(
            f"{certificate} (LEASING_TLS_CERTIFICATE) cannot be served: {error.reason}."
        ) from error


def _serves(certificate: Path, key: Path, settings: CoreSettings) -> bool:
    """Whether ours still can: whole, not near its end, and with the address of today."""
    try:
        found = _certificate(certificate)
        _must_fit(certificate, found, key)
        carried = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (HostError, x509.ExtensionNotFound):
        return False
    lasting = found.not_valid_after_utc - datetime.now(UTC) > RENEWED_BEFORE
    return lasting and all(_name(one) in carried for one in _named(settings))


def _named(settings: CoreSettings) -> list[str]:
    hosted = [f"*.{settings.gateway_domain}"] if settings.gateway_domain is not None else []
    return [settings.host, settings.listen, *hosted]


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
