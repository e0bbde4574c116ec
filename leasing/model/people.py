"""Users and the secrets that stand for them. Only hashes of secrets are stored."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from leasing.model.base import Base, Created, Key, one_of
from leasing.states import Role


class TokenKind(StrEnum):
    """What a secret is good for."""

    API = "api"
    """A user's own, for the command line and the SDK."""
    SESSION = "session"
    """A browser's cookie."""
    SIGNIN = "signin"
    """A one-time link; used up by the first sign-in."""
    ENDPOINT = "endpoint"
    """A browser's cookie on the gateway's origin, for one lease."""
    LEASE = "lease"
    """For one lease's endpoint, to hand to another application."""


class User(Base):
    """A person who leases. Disabled rather than deleted, for usage and events refer to them."""

    __tablename__ = "users"
    __table_args__ = (one_of("role", Role),)

    id: Mapped[Key]
    name: Mapped[str] = mapped_column(unique=True)
    role: Mapped[str]
    created_at: Mapped[Created]
    disabled_at: Mapped[datetime | None]


class Token(Base):
    """A secret of a user's, by its SHA-256. Opaque, and so revocable at once."""

    __tablename__ = "token"
    __table_args__ = (
        one_of("kind", TokenKind),
        CheckConstraint("kind <> 'lease' OR lease_id IS NOT NULL", name="scoped"),
        CheckConstraint("kind <> 'endpoint' OR opened_by IS NOT NULL", name="opened"),
    )

    id: Mapped[Key]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    kind: Mapped[str]
    hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    label: Mapped[str]
    lease_id: Mapped[UUID | None] = mapped_column(ForeignKey("lease.id", ondelete="CASCADE"), index=True)
    """Set for a token that opens one lease's endpoint only."""
    opened_by: Mapped[UUID | None] = mapped_column(ForeignKey("token.id", ondelete="CASCADE"), index=True)
    """Of a browser's endpoint, and of the ticket to it: the session that it was opened from, with which it ends."""
    created_at: Mapped[Created]
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class RegistryCredential(Base):
    """A login at a private image registry; the secret is sealed with the installation's key."""

    __tablename__ = "registry_credential"

    host: Mapped[str] = mapped_column(primary_key=True)
    username: Mapped[str]
    sealed_secret: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[Created]
