"""Projects, their members, and quotas, on the wire."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field, model_validator

from leasing.schema.base import Request, Wire
from leasing.states import Priority, ProjectRole


class ProjectIn(Request):
    name: str = Field(max_length=40, description="A DNS label.")
    weight: float = Field(
        1.0, gt=0, le=1e6, description="Its part of what is contended, against the others'."
    )
    open: bool = Field(False, description="Everybody may lease in its name, member or not.")
    top_priority: Priority = Field(Priority.NORMAL, description="The highest class its leases may have.")


class ProjectPatch(Request):
    """Only what is given changes."""

    weight: float | None = Field(None, gt=0, le=1e6)
    open: bool | None = None
    top_priority: Priority | None = None


class MemberIn(Request):
    role: ProjectRole = ProjectRole.DEVELOPER


class MemberOut(Wire):
    user: str
    role: str


class ProjectOut(Wire):
    """A project, as one who may see it does."""

    name: str
    role: str | None
    """Yours in it; None for no member: then it is open, or you are an admin."""
    open: bool
    weight: float
    top_priority: str
    members: list[MemberOut]
    used_device_hours: float
    """What its leases have used, older use counting for less, as the fair share sees it."""
    devices: float
    """What its leases hold now; parts count as such."""
    due_ratio: float | None
    """Its part of what is contended: its weight against those of all projects with live leases. None: it has none."""
    created_at: datetime


class ProjectPage(Wire):
    items: list[ProjectOut]


class MyProjectOut(Wire):
    """A project that you may lease in."""

    name: str
    role: str | None
    top_priority: str
    """The highest class that you may ask for there."""


class QuotaIn(Request):
    """All limits of a user or a project: what is left out is not limited, or, for users, as the platform's default."""

    max_devices: float | None = Field(None, ge=0, le=1e6, description="Parts of devices count as such.")
    max_leases: int | None = Field(
        None, ge=0, le=1_000_000, description="Live ones, suspended ones not counted."
    )
    device_hours: float | None = Field(None, ge=0, le=1e9, description="In any `window_hours`.")
    window_hours: int | None = Field(None, ge=1, le=8784)

    @model_validator(mode="after")
    def _window(self) -> QuotaIn:
        if (self.device_hours is None) != (self.window_hours is None):
            raise ValueError("device_hours and window_hours go together: give both or none")
        return self


class QuotaOut(Wire):
    """The limits of a user or a project as they hold, and what counts against each. None: no limit."""

    subject: str
    """`users/NAME` or `projects/NAME`."""
    own: bool
    """Whether an admin set it; else it is the platform's default."""
    max_devices: float | None
    devices: float
    """Held or waited for by live leases."""
    max_leases: int | None
    leases: int
    device_hours: float | None
    window_hours: int | None
    used_device_hours: float | None
    """Within the window until now."""
    to_come_device_hours: float | None
    """What live leases may yet use by their deadlines."""
    frees_at: datetime | None
    """When the first of what was used leaves the window."""


class QuotaPage(Wire):
    items: list[QuotaOut]
