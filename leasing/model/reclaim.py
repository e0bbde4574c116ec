"""How leases are taken back: by which policy, on which activity, kept by whom, and after which warnings."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from leasing.model.base import Base, Created, Key, Moment, one_of
from leasing.states import Channel, NoticeKind, ReclaimAction


class Policy(Base):
    """How leases of one project, of one environment, one lease, or all of them, are taken back.

    Of several that fit a lease the most special counts, whole: lease, then project, then environment, then all.
    None is the platform's own value.
    """

    __tablename__ = "policy"
    __table_args__ = (
        one_of("action", ReclaimAction, nullable=True),
        CheckConstraint("num_nonnulls(project_id, environment, lease_id) <= 1", name="subject"),
        CheckConstraint(
            "window_seconds >= 0 AND longest_seconds > 0 AND grace_seconds >= 0 AND protected_seconds >= 0 "
            "AND retention_seconds >= 0",
            name="seconds",
        ),
        Index(
            "uq_policy_all",
            text("(true)"),
            unique=True,
            postgresql_where=text("num_nonnulls(project_id, environment, lease_id) = 0"),
        ),
    )

    id: Mapped[Key]
    name: Mapped[str] = mapped_column(unique=True)
    project_id: Mapped[UUID | None] = mapped_column(ForeignKey("project.id", ondelete="CASCADE"), unique=True)
    environment: Mapped[str | None] = mapped_column(unique=True)
    """As leases ask for it: an environment's name or an image reference."""
    lease_id: Mapped[UUID | None] = mapped_column(ForeignKey("lease.id", ondelete="CASCADE"), unique=True)
    action: Mapped[str | None]
    window_seconds: Mapped[int | None]
    """Quiet for so long is idle, for leases that do not say otherwise; 0: never."""
    learned: Mapped[bool] = mapped_column(server_default=text("false"))
    """The window is learned from how such leases were used, and is `window_seconds` at most."""
    longest_seconds: Mapped[int | None]
    """The longest that leases may ask to be idle; then none is left alone for ever."""
    thresholds: Mapped[dict[str, float]] = mapped_column(JSONB, server_default=text("'{}'"))
    """Signal -> from where on it is activity; absent is the platform's."""
    grace_seconds: Mapped[int | None]
    """After each start, for so long, nothing is idle."""
    warnings: Mapped[list[int] | None] = mapped_column(JSONB(none_as_null=True))
    """Seconds before, from the first warning to the last."""
    hours: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """Working hours, in which nothing is taken back as idle: days, from, to, zone."""
    protected_seconds: Mapped[int | None]
    """After each start, for so long, it gives way to nobody."""
    retention_seconds: Mapped[int | None]
    """A suspended lease keeps its files for so long; 0 is for ever."""
    created_at: Mapped[Created]
    updated_at: Mapped[Created]


class LearnedWindow(Base):
    """What such leases under one policy have taught: the window that would have returned most of their idle time."""

    __tablename__ = "learned_window"

    policy_id: Mapped[UUID] = mapped_column(ForeignKey("policy.id", ondelete="CASCADE"), primary_key=True)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    project_id: Mapped[UUID] = mapped_column(ForeignKey("project.id", ondelete="CASCADE"), primary_key=True)
    environment: Mapped[str] = mapped_column(primary_key=True)
    window_seconds: Mapped[int]
    gaps: Mapped[int]
    """So many idle gaps it was learned from, those of others with them."""
    learned_at: Mapped[Moment]


class Keep(Base):
    """A lease's owner has said that it is to be kept: until a moment, or while a command succeeds inside."""

    __tablename__ = "keep"
    __table_args__ = (CheckConstraint("num_nonnulls(command, until) >= 1", name="something"),)

    lease_id: Mapped[UUID] = mapped_column(ForeignKey("lease.id", ondelete="CASCADE"), primary_key=True)
    command: Mapped[list[str] | None] = mapped_column(JSONB(none_as_null=True))
    until: Mapped[datetime | None]
    asked_by: Mapped[str]
    created_at: Mapped[Created]
    checked_at: Mapped[datetime | None]
    exit_code: Mapped[int | None]
    message: Mapped[str] = mapped_column(server_default="")


class Activity(Base):
    """What the signals of a lease showed in one minute: the record that a verdict can be made from again."""

    __tablename__ = "activity"
    __table_args__ = (Index("ix_activity_minute", "minute"),)

    lease_id: Mapped[UUID] = mapped_column(ForeignKey("lease.id", ondelete="CASCADE"), primary_key=True)
    minute: Mapped[Moment] = mapped_column(primary_key=True)
    peaks: Mapped[dict[str, float]] = mapped_column(JSONB, server_default=text("'{}'"))
    """Signal -> its highest value in that minute; absent is unknown: it was not heard without a gap."""


class Notice(Base):
    """The outbox: one warning on one channel. Its id is stable, so that who gets it twice can tell.

    The row is the promise kept: written with the decision, delivered afterwards, at least once.
    """

    __tablename__ = "notice"
    __table_args__ = (
        one_of("kind", NoticeKind),
        one_of("channel", Channel),
        UniqueConstraint("lease_id", "kind", "deadline", "step_seconds", "channel"),
        Index(
            "ix_notice_due",
            "retry_at",
            postgresql_where=text("delivered_at IS NULL AND given_up_at IS NULL AND voided_at IS NULL"),
        ),
        Index("ix_notice_lease_id", "lease_id", "created_at"),
    )

    id: Mapped[Key]
    lease_id: Mapped[UUID] = mapped_column(ForeignKey("lease.id", ondelete="CASCADE"))
    kind: Mapped[str]
    deadline: Mapped[Moment]
    step_seconds: Mapped[int]
    """So long before the deadline."""
    channel: Mapped[str]
    message: Mapped[str]
    """What will be done, without when: `train is idle and will be suspended`."""
    created_at: Mapped[Created]
    retry_at: Mapped[Moment] = mapped_column(server_default=text("now()"))
    """When it is to be delivered, or tried again."""
    attempts: Mapped[int] = mapped_column(server_default="0")
    claim_until: Mapped[datetime | None]
    delivered_at: Mapped[datetime | None]
    given_up_at: Mapped[datetime | None]
    """Tried often enough."""
    voided_at: Mapped[datetime | None]
    """The deadline moved before it was sent."""
    error: Mapped[str] = mapped_column(server_default="")


class Contact(Base):
    """Where a user wants to be told, by channel. The address may hold a secret, and is sealed."""

    __tablename__ = "contact"
    __table_args__ = (one_of("channel", Channel), UniqueConstraint("user_id", "channel"))

    id: Mapped[Key]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    channel: Mapped[str]
    sealed_address: Mapped[bytes] = mapped_column(LargeBinary)
    shown: Mapped[str]
    """The address without its secrets, for people."""
    test_asked_at: Mapped[datetime | None]
    """When a message was asked for that tries it; None once one was sent, or could not be."""
    told_at: Mapped[datetime | None]
    """When something last reached it."""
    error: Mapped[str] = mapped_column(server_default="")
    """Why the last try did not; empty once one did."""
    created_at: Mapped[Created]
