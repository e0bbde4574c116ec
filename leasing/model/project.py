"""Projects, who belongs to them, and what users and projects may have."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, text
from sqlalchemy.orm import Mapped, mapped_column

from leasing.model.base import Base, Created, Key, Moment, one_of
from leasing.states import ProjectRole


class Project(Base):
    """What leases are asked for in the name of. Contended devices are shared between projects by their weights."""

    __tablename__ = "project"
    __table_args__ = (
        CheckConstraint("weight > 0", name="weight"),
        CheckConstraint("top_priority BETWEEN -1 AND 1", name="top_priority"),
    )

    id: Mapped[Key]
    name: Mapped[str] = mapped_column(unique=True)
    open: Mapped[bool] = mapped_column(server_default=text("false"))
    """Everybody may lease in its name, member or not."""
    weight: Mapped[float] = mapped_column(server_default="1")
    top_priority: Mapped[int] = mapped_column(server_default="0")
    """`Priority.rank` of the highest class that its leases may have."""
    used_device_seconds: Mapped[float] = mapped_column(server_default="0")
    """What its leases have used, older use counting for less (a half-life); as of `used_at`."""
    used_at: Mapped[Moment] = mapped_column(server_default=text("now()"))
    created_at: Mapped[Created]


class Member(Base):
    """A user's role in a project."""

    __tablename__ = "member"
    __table_args__ = (one_of("role", ProjectRole),)

    project_id: Mapped[UUID] = mapped_column(ForeignKey("project.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), primary_key=True, index=True)
    role: Mapped[str]


class Quota(Base):
    """Hard ceilings of one user or of one project; None is the platform's default for users, none for projects."""

    __tablename__ = "quota"
    __table_args__ = (
        CheckConstraint("num_nonnulls(user_id, project_id) = 1", name="subject"),
        CheckConstraint("(device_hours IS NULL) = (window_hours IS NULL)", name="window"),
        CheckConstraint("max_devices >= 0 AND max_leases >= 0 AND device_hours >= 0", name="positive"),
        CheckConstraint("window_hours > 0", name="window_hours"),
    )

    id: Mapped[Key]
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"), unique=True)
    project_id: Mapped[UUID | None] = mapped_column(ForeignKey("project.id", ondelete="CASCADE"), unique=True)
    max_devices: Mapped[float | None]
    """Devices that live leases may hold or wait for together; parts count as such."""
    max_leases: Mapped[int | None]
    device_hours: Mapped[float | None]
    """Device-hours in any `window_hours`: used within it, and still to come of live leases by their deadlines."""
    window_hours: Mapped[int | None]
