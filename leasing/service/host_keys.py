"""The SSH host key of a lease: made of the installation's own key, so nothing of it is stored, and the same wherever
and however often the lease runs.

Who holds a lease can read its host key. It tells nothing of another lease's, nor of the key that it was made of.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

PURPOSE = "ssh-host"


@dataclass(frozen=True)
class HostKey:
    """As OpenSSH writes them: `public` is one line, `private` a PEM block."""

    public: str
    private: str = field(repr=False)


def of(key: bytes, lease_id: UUID) -> HostKey:
    """`key` is the installation's for this purpose, see `leasing.secrets.signing_key`."""
    made = Ed25519PrivateKey.from_private_bytes(hmac.digest(key, lease_id.bytes, "sha256"))
    return HostKey(
        public=made.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode(),
        private=made.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode(),
    )
