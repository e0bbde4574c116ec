"""Projects: who may lease in their name, who belongs to them, and their part of what is contended."""

from __future__ import annotations

from collections import defaultdict
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from leasing import names
from leasing.errors import Conflict, NameTaken, NotAllowed, NotFound
from leasing.gpus import WHOLE
from leasing.model import Allocation, Lease, Member, Project, Reservation, Run, User, Workspace
from leasing.schema.project import (
    MemberIn,
    MemberOut,
    MyProjectOut,
    ProjectIn,
    ProjectOut,
    ProjectPage,
    ProjectPatch,
)
from leasing.service import events
from leasing.service.principal import Principal
from leasing.states import LeaseState, Priority, ProjectRole

MAY_LEASE = (ProjectRole.DEVELOPER, ProjectRole.OWNER)
DEFAULT = "default"
"""What a request means that names no project."""
HOUR = 3600


def to_lease_in(session: Session, name: str, priority: Priority, *, principal: Principal) -> Project:
    """The project, if the principal may lease in its name with that class.

    Raises `NotFound`, and `NotAllowed` for who is no member, or for a class above the project's.
    """
    project = find(session, names.lease_name(name))
    if not (project.open or principal.admin or _role(session, project, principal) in MAY_LEASE):
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


def find(session: Session, name: str, *, lock: bool = False) -> Project:
    """Raises `NotFound`. `lock`: nobody asks for leases in its name, and no quota of it changes, until the end."""
    statement = sa.select(Project).where(Project.name == name)
    if lock:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    project = session.execute(statement).scalar_one_or_none()
    if project is None:
        raise NotFound(f"There is no project {name[:60]!r}.", hint="lease projects shows yours.")
    return project


def mine(session: Session, *, principal: Principal) -> list[MyProjectOut]:
    """Where the principal may lease, what is open to all last."""
    own = sa.and_(Member.project_id == Project.id, Member.user_id == principal.user_id)
    rows = session.execute(
        sa.select(Project, Member.role)
        .outerjoin(Member, own)
        .where(sa.or_(Project.open, Member.role.in_(MAY_LEASE), sa.literal(principal.admin)))
        .order_by(Member.role.is_(None), Project.name)
    )
    return [
        MyProjectOut(
            name=project.name,
            role=role,
            top_priority=Priority.HIGH if principal.admin else Priority.of(project.top_priority),
        )
        for project, role in rows
    ]


def page(session: Session, *, principal: Principal, everyone: bool) -> ProjectPage:
    """The principal's, and those that are open; `everyone` is honoured for admins. By name."""
    statement = sa.select(Project).order_by(Project.name)
    if not (everyone and principal.admin):
        member = sa.exists().where(Member.project_id == Project.id, Member.user_id == principal.user_id)
        statement = statement.where(sa.or_(Project.open, member))
    return ProjectPage(items=_outs(session, list(session.execute(statement).scalars()), principal))


def create(session: Session, ask: ProjectIn, *, principal: Principal) -> ProjectOut:
    """Raises `Invalid`, `NameTaken`."""
    project = Project(
        name=names.lease_name(ask.name), weight=ask.weight, open=ask.open, top_priority=ask.top_priority.rank
    )
    try:
        with session.begin_nested():
            session.add(project)
    except IntegrityError as error:
        raise NameTaken(
            f"There is a project called {ask.name!r} already.", hint="lease projects --everyone shows all."
        ) from error
    _record(session, project, "created", f"{principal.name} made project {project.name}", principal)
    session.refresh(project)
    return _out(session, project, principal)


def change(session: Session, name: str, ask: ProjectPatch, *, principal: Principal) -> ProjectOut:
    """Leases that there are keep their class. Raises `NotFound`."""
    project = find(session, name)
    if ask.weight is not None:
        project.weight = ask.weight
    if ask.open is not None:
        project.open = ask.open
    if ask.top_priority is not None:
        project.top_priority = ask.top_priority.rank
    session.flush()
    said = ", ".join(f"{field}={getattr(ask, field)}" for field in sorted(ask.model_fields_set))
    _record(session, project, "changed", f"{principal.name} changed project {name}: {said}", principal)
    return _out(session, project, principal)


def delete(session: Session, name: str, *, principal: Principal) -> None:
    """With its members and its quota.

    Raises `NotFound`, and `Conflict` for the default one and once anything was leased or reserved in its name.
    """
    project = find(session, name, lock=True)
    if name == DEFAULT:
        raise Conflict(
            "Requests that name no project mean this one.",
            hint=f"To keep people out: lease projects set {DEFAULT} --closed",
        )
    live, ended = session.execute(
        sa.select(
            sa.func.count().filter(Lease.state != LeaseState.ENDED),
            sa.func.count().filter(Lease.state == LeaseState.ENDED),
        ).where(Lease.project_id == project.id)
    ).one()
    if live:
        raise Conflict(
            f"Project {name} has {live} live lease{'s' if live > 1 else ''}.",
            hint="They go first: lease ls --everyone shows them, lease release NAME ends one.",
        )
    held = list(
        session.execute(
            sa.select(Workspace.name)
            .where(Workspace.project_id == project.id, Workspace.deleted_at.is_(None))
            .order_by(Workspace.name)
        ).scalars()
    )
    if held:
        raise Conflict(
            f"Project {name} has {len(held)} workspace{'s' if len(held) > 1 else ''}: {', '.join(held[:3])}.",
            hint=f"Take a copy and delete it: lease workspace export {name}/{held[0]} > {held[0]}.tar, "
            f"lease workspace rm {name}/{held[0]}",
        )
    reserved = session.execute(
        sa.select(sa.func.count()).select_from(Reservation).where(Reservation.project_id == project.id)
    ).scalar_one()
    if ended or reserved:
        kept = " and ".join(
            f"{count} {what}{'s' if count > 1 else ''}"
            for count, what in ((ended, "ended lease"), (reserved, "reservation"))
            if count
        )
        raise Conflict(
            f"The history of {kept} names project {name}.",
            hint=f"To keep people out: lease projects set {name} --closed, and lease projects remove {name} USER.",
        )
    # what remains of deleted ones is nobody's to see
    session.execute(sa.update(Workspace).where(Workspace.project_id == project.id).values(project_id=None))
    session.delete(project)
    session.flush()
    _record(session, project, "deleted", f"{principal.name} deleted project {name}", principal)


def set_member(session: Session, name: str, user: str, ask: MemberIn, *, principal: Principal) -> ProjectOut:
    """Let somebody in, or give them another role. For owners and admins. Raises `NotFound`, `NotAllowed`."""
    project = _to_manage(session, name, principal)
    user_id = _user(session, user)
    session.execute(
        insert(Member)
        .values(project_id=project.id, user_id=user_id, role=ask.role)
        .on_conflict_do_update(index_elements=["project_id", "user_id"], set_={"role": ask.role})
    )
    message = f"{principal.name} made {user} {ask.role} of project {name}"
    _record(session, project, "member_set", message, principal, user=user, role=ask.role)
    return _out(session, project, principal)


def remove_member(session: Session, name: str, user: str, *, principal: Principal) -> None:
    """Their leases in its name go on. Idempotent. Anybody may leave. Raises `NotFound`, `NotAllowed`."""
    project = find(session, name) if user == principal.name else _to_manage(session, name, principal)
    gone = session.execute(
        sa.delete(Member)
        .where(Member.project_id == project.id, Member.user_id == _user(session, user))
        .returning(Member.user_id)
    ).scalar_one_or_none()
    if gone is not None:
        message = f"{principal.name} took {user} out of project {name}"
        _record(session, project, "member_removed", message, principal, user=user)


def _to_manage(session: Session, name: str, principal: Principal) -> Project:
    project = find(session, name)
    if not principal.admin and _role(session, project, principal) != ProjectRole.OWNER:
        raise NotAllowed(
            f"Only owners of project {name} and admins say who belongs to it.",
            hint="lease projects members shows who they are.",
        )
    return project


def _role(session: Session, project: Project, principal: Principal) -> str | None:
    return session.execute(
        sa.select(Member.role).where(Member.project_id == project.id, Member.user_id == principal.user_id)
    ).scalar_one_or_none()


def _user(session: Session, name: str) -> UUID:
    user_id = session.execute(sa.select(User.id).where(User.name == name)).scalar_one_or_none()
    if user_id is None:
        raise NotFound(f"There is no user {name[:60]!r}.", hint="lease admin users ls shows them, to admins.")
    return user_id


def _record(
    session: Session, project: Project, what: str, message: str, principal: Principal, **more: str
) -> None:
    events.record(
        session,
        f"project.{what}",
        message,
        actor=principal.actor,
        data={"project": project.name} | more,
    )


def _out(session: Session, project: Project, principal: Principal) -> ProjectOut:
    return _outs(session, [project], principal)[0]


def _outs(session: Session, projects: list[Project], principal: Principal) -> list[ProjectOut]:
    members: dict[UUID, list[MemberOut]] = defaultdict(list)
    for project_id, user, role in session.execute(
        sa.select(Member.project_id, User.name, Member.role)
        .join(User, User.id == Member.user_id)
        .where(Member.project_id.in_([project.id for project in projects]))
        .order_by(User.name)
    ):
        members[project_id].append(MemberOut(user=user, role=role))
    live: dict[UUID, float] = dict(
        session.execute(
            sa.select(Project.id, Project.weight).where(
                sa.exists().where(Lease.project_id == Project.id, Lease.state != LeaseState.ENDED)
            )
        ).all()
    )
    devices: dict[UUID, int] = dict(
        session.execute(
            sa.select(Lease.project_id, sa.func.sum(Allocation.share))
            .join(Run, Run.lease_id == Lease.id)
            .join(Allocation, Allocation.run_id == Run.id)
            .where(Allocation.released_at.is_(None))
            .group_by(Lease.project_id)
        ).all()
    )
    return [
        ProjectOut(
            name=project.name,
            role=next((one.role for one in members[project.id] if one.user == principal.name), None),
            open=project.open,
            weight=project.weight,
            top_priority=Priority.of(project.top_priority),
            members=members[project.id],
            used_device_hours=project.used_device_seconds / HOUR,
            devices=devices.get(project.id, 0) / WHOLE,
            due_ratio=project.weight / sum(live.values()) if project.id in live else None,
            created_at=project.created_at,
        )
        for project in projects
    ]
