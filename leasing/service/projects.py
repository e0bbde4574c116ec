"""Projects: who may lease in their name."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing import names
from leasing.errors import NotAllowed, NotFound
from leasing.model import Member, Project
from leasing.service.principal import Principal
from leasing.states import Priority, ProjectRole

MAY_LEASE = (ProjectRole.DEVELOPER, ProjectRole.OWNER)


def to_lease_in(session: Session, name: str, priority: Priority, *, principal: Principal) -> Project:
    """The project, if the principal may lease in its name with that class.

    Raises `NotFound`, and `NotAllowed` for who is no member, or for a class above the project's.
    """
    project = session.execute(
        sa.select(Project).where(Project.name == names.lease_name(name))
    ).scalar_one_or_none()
    if project is None:
        raise NotFound(f"There is no project {name[:60]!r}.", hint="lease projects shows yours.")
    if not (project.open or principal.admin):
        role = session.execute(
            sa.select(Member.role).where(Member.project_id == project.id, Member.user_id == principal.user_id)
        ).scalar_one_or_none()
        if role not in MAY_LEASE:
            raise NotAllowed(
                f"{principal.name} may not lease in project {project.name}.",
                hint="An owner of it can let you in; lease projects shows yours.",
            )
    if priority.rank > project.top_priority and not principal.admin:
        highest = Priority.of(project.top_priority)
        raise NotAllowed(
            f"Leases of project {project.name} may have priority {highest} at most.",
            hint=f"Ask with --priority {highest}, or ask an admin.",
        )
    return project
