"""Workspaces: who may do what with them, and which lease has one to write to.

A workspace has one writer at a time, and readers beside it. A lease claims it from when it is asked for until it ends
or is suspended: a suspended lease keeps no claim, and must find the workspace free when it goes on. The unique index
`uq_lease_live_workspace` says the same, whatever the code does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from leasing import names
from leasing.errors import Conflict, Invalid, NameTaken, NotAllowed, NotFound, OverQuota
from leasing.model import Lease, Member, Node, Project, User, Workspace
from leasing.schema.workspace import WorkspaceIn, WorkspacePatch
from leasing.service import events, projects
from leasing.service.principal import Principal
from leasing.settings.limits import LimitSettings
from leasing.states import LeaseState, NodeHealth, ProjectRole, Role, WorkspaceKind
from leasing.units import format_size, parse_size

LEAST_BYTES = 16 * 1024**2
WRITERS = (ProjectRole.DEVELOPER, ProjectRole.OWNER)
CLAIMING = tuple(state for state in LeaseState if state not in (LeaseState.ENDED, LeaseState.SUSPENDED))
"""A lease in one of these has its workspace for itself, to write to."""


@dataclass(frozen=True)
class Found:
    """A workspace, as it is called, and what the caller may do with it besides reading."""

    row: Workspace
    ref: str
    may_write: bool
    may_manage: bool


def find(
    session: Session, ref: str, project: str | None = None, *, principal: Principal, lock: bool = False
) -> Found:
    """By id; or by name, of the caller's own, or of the project's. `lock` holds the row for the transaction.

    Raises `NotFound`, and `NotAllowed` for somebody else's.
    """
    try:
        condition = Workspace.id == UUID(ref)
    except ValueError:
        if project is None:
            own = sa.and_(Workspace.owner_id == principal.user_id, Workspace.project_id.is_(None))
        else:
            own = Workspace.project_id == projects.find(session, project).id
        condition = sa.and_(Workspace.name == ref, own)
    statement = sa.select(Workspace).where(condition, Workspace.deleted_at.is_(None))
    if lock:
        statement = statement.with_for_update(key_share=True).execution_options(populate_existing=True)
    row = session.execute(statement).scalar_one_or_none()
    if row is None:
        called = f"{project}/{ref}" if project else ref
        raise NotFound(
            f"There is no workspace {called[:80]!r}.", hint="lease workspace ls shows those that you may use."
        )
    return _seen(session, row, principal)


def _seen(session: Session, row: Workspace, principal: Principal) -> Found:
    if row.project_id is None:
        if row.owner_id != principal.user_id and not principal.admin:
            raise NotAllowed(
                f"Workspace {row.name!r} is somebody else's.", hint="lease workspace ls shows yours."
            )
        return Found(row, row.name, may_write=row.owner_id == principal.user_id, may_manage=True)
    name = session.execute(sa.select(Project.name).where(Project.id == row.project_id)).scalar_one()
    role = _role(session, row.project_id, principal.user_id)
    if role is None and not principal.admin:
        raise NotAllowed(
            f"Workspace {row.name!r} is for the members of project {name}.",
            hint="An owner of it can let you in; lease workspace ls shows yours.",
        )
    made_it = row.owner_id == principal.user_id and role in WRITERS
    manages = principal.admin or role == ProjectRole.OWNER or made_it
    return Found(row, f"{name}/{row.name}", may_write=principal.admin or role in WRITERS, may_manage=manages)


def _role(session: Session, project_id: UUID, user_id: UUID) -> str | None:
    return session.execute(
        sa.select(Member.role).where(Member.project_id == project_id, Member.user_id == user_id)
    ).scalar_one_or_none()


def to_manage(session: Session, ref: str, project: str | None, *, principal: Principal) -> Found:
    """The same, locked, for who may export, change and delete it. Raises `NotFound`, `NotAllowed`."""
    found = find(session, ref, project, principal=principal, lock=True)
    if not found.may_manage:
        raise NotAllowed(
            f"Only who made workspace {found.ref}, owners of its project and admins may do that.",
            hint=f"You may use it: lease up --workspace {found.ref}",
        )
    return found


def create(session: Session, ask: WorkspaceIn, *, principal: Principal, limits: LimitSettings) -> Found:
    """Raises `Invalid`, `NotFound`, `NotAllowed`, `NameTaken`, `OverQuota`."""
    name = names.lease_name(ask.name)
    project = _to_make_in(session, ask.project, principal) if ask.project is not None else None
    _check_count(session, principal, limits)
    quota = _quota(ask.quota, principal, limits)
    node_id = None
    if ask.node is not None:
        node_id = session.execute(sa.select(Node.id).where(Node.name == ask.node)).scalar_one_or_none()
        if node_id is None:
            raise NotFound(f"There is no node {ask.node[:60]!r}.", hint="lease offers shows them.")
    made = _insert(
        session, principal, name, quota, project_id=project.id if project else None, node_id=node_id
    )
    if not made:
        raise NameTaken(
            f"There is a workspace called {ask.name!r} already.", hint="lease workspace ls shows them."
        )
    found = find(session, name, ask.project, principal=principal)
    _record(session, found, "created", f"{principal.name} made workspace {found.ref}", principal)
    return found


def _to_make_in(session: Session, name: str, principal: Principal) -> Project:
    project = projects.find(session, name)
    role = _role(session, project.id, principal.user_id)
    if role not in WRITERS and not principal.admin:
        raise NotAllowed(
            f"Only developers and owners of project {project.name} may make workspaces there.",
            hint="An owner of it can let you in; one of your own: lease workspace create NAME",
        )
    there = sa.select(Project.id).where(Project.id == project.id).with_for_update(read=True, key_share=True)
    if session.execute(there).scalar_one_or_none() is None:  # it was being deleted just now
        raise NotFound(f"There is no project {name[:60]!r}.", hint="lease projects shows yours.")
    return project


def change(
    session: Session, ref: str, project: str | None, ask: WorkspacePatch, *, principal: Principal,
    limits: LimitSettings,
) -> Found:  # fmt: skip
    """A new quota, from the next use on. Raises `Invalid`, `NotFound`, `NotAllowed`, `Conflict`, `OverQuota`."""
    found = to_manage(session, ref, project, principal=principal)
    row, quota = found.row, _quota(ask.quota, principal, limits)
    if quota is None or (row.size_bytes is not None and quota < row.size_bytes):
        raise Conflict(
            f"Workspace {found.ref} holds {format_size(row.size_bytes or 0)} already.",
            hint=f"Give it more: lease workspace set {found.ref} --quota {format_size(2 * (row.size_bytes or 0))}",
        )
    if row.kind == WorkspaceKind.QUOTA and row.quota_bytes is not None and quota < row.quota_bytes:
        raise Conflict(
            f"Workspace {found.ref} is a file system of {format_size(row.quota_bytes)}, which cannot shrink.",
            hint=f"Make a smaller one and copy: lease workspace create NAME --quota {format_size(quota)}",
        )
    row.quota_bytes, row.warned_at = quota, None
    session.flush()
    message = f"{principal.name} gave workspace {found.ref} a quota of {format_size(quota)}"
    _record(session, found, "changed", message, principal)
    return found


def delete(session: Session, ref: str, project: str | None, *, principal: Principal, now: datetime) -> None:
    """For good: its volume goes with the next sweep of its node, or when that answers again.

    Raises `NotFound`, `NotAllowed`, and `Conflict` while a lease has it or could go on with it.
    """
    found = to_manage(session, ref, project, principal=principal)
    users = list(
        session.execute(
            sa.select(Lease.name)
            .where(Lease.workspace_id == found.row.id, Lease.state != LeaseState.ENDED)
            .order_by(Lease.created_at)
        ).scalars()
    )
    if users:
        raise Conflict(
            f"Workspace {found.ref} is in use by {', '.join(users[:3])}{' and more' if len(users) > 3 else ''}; "
            "suspended leases count, for they may go on with it.",
            hint=f"They go first: lease release {users[0]}",
        )
    found.row.deleted_at = now
    if found.row.node_id is None:
        found.row.removed_at = now
    session.flush()
    _record(session, found, "deleted", f"{principal.name} deleted workspace {found.ref}", principal)


def attach(session: Session, text: str, *, principal: Principal, limits: LimitSettings) -> tuple[UUID, bool]:
    """The workspace that a request names, free for it, and whether it is to be read only. Holds the row.

    One of the user's own that is new is made, a project's is not. Raises `Invalid`, `NotFound`, `NotAllowed`,
    `OverQuota`, and `Conflict` while another lease writes to it.
    """
    project, name, read_only = names.workspace_ref(text)
    if project is None and not read_only:
        _make_own(session, principal, name, limits)
    found = find(session, name, project, principal=principal, lock=True)
    _check_there(session, found)
    if read_only:
        return found.row.id, True
    if not found.may_write:
        raise NotAllowed(
            f"You may read workspace {found.ref}, and not write to it.",
            hint=f"Read it: --workspace {found.ref}{names.READ_ONLY}",
        )
    _check_size(found)
    _check_free(session, found)
    return found.row.id, False


def check_allowed_again(session: Session, lease: Lease) -> None:
    """Before somebody lets a suspended lease go on: its owner may still use the project's workspace as it does.

    It may have rested for weeks, and who belongs to a project changes. Raises `NotAllowed`.
    """
    if lease.workspace_id is None:
        return
    found = session.execute(
        sa.select(Workspace, Project)
        .join(Project, Project.id == Workspace.project_id)
        .where(Workspace.id == lease.workspace_id)
    ).one_or_none()
    if found is None:  # its owner's own
        return
    workspace, project = found
    owner, role = session.get_one(User, lease.owner_id), _role(session, project.id, lease.owner_id)
    if owner.role == Role.ADMIN or role in WRITERS or (lease.workspace_read_only and role is not None):
        return
    may = "not use" if role is None else "read, and not write to,"
    raise NotAllowed(
        f"{owner.name} may {may} workspace {project.name}/{workspace.name} any more.",
        hint=f"An owner of project {project.name} can let {owner.name} in again. "
        f"Or give it up: lease release {lease.name}",
    )


def check_free_again(session: Session, lease: Lease) -> None:
    """Before a suspended lease goes on: nobody else writes to its workspace now. Holds the workspace's row.

    Raises `Conflict`.
    """
    if lease.workspace_id is None or lease.workspace_read_only:
        return
    row = session.execute(
        sa.select(Workspace)
        .where(Workspace.id == lease.workspace_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).scalar_one()
    holder = _holder(session, row.id)
    if holder is not None:
        raise Conflict(
            f"Workspace {row.name!r} is in use by lease {holder!r} now; it has one writer at a time.",
            hint=f"When that is over (lease release {holder}): lease resume {lease.name}",
        )


def _make_own(session: Session, principal: Principal, name: str, limits: LimitSettings) -> None:
    mine = sa.exists().where(
        Workspace.owner_id == principal.user_id, Workspace.project_id.is_(None), Workspace.name == name,
        Workspace.deleted_at.is_(None),
    )  # fmt: skip
    if not session.execute(sa.select(mine)).scalar_one():
        _check_count(session, principal, limits)
        _insert(
            session, principal, name, limits.default_workspace_bytes or None, project_id=None, node_id=None
        )


def _insert(
    session: Session, principal: Principal, name: str, quota: int | None, *, project_id: UUID | None,
    node_id: UUID | None,
) -> bool:  # fmt: skip
    """Whether it is new: of two at once, one makes it."""
    made = session.execute(
        insert(Workspace)
        .values(
            owner_id=principal.user_id, project_id=project_id, name=name, quota_bytes=quota, node_id=node_id
        )
        .on_conflict_do_nothing()
        .returning(Workspace.id)
    ).scalar_one_or_none()
    return made is not None


def _check_count(session: Session, principal: Principal, limits: LimitSettings) -> None:
    # of two requests at once, the second counts what the first has made
    session.execute(
        sa.select(User.id).where(User.id == principal.user_id).with_for_update(key_share=True)
    ).scalar_one()
    has = session.execute(
        sa.select(sa.func.count())
        .select_from(Workspace)
        .where(Workspace.owner_id == principal.user_id, Workspace.deleted_at.is_(None))
    ).scalar_one()
    if has >= limits.workspaces_per_user and not principal.admin:
        raise OverQuota(
            f"You have made {has} workspaces; the limit is {limits.workspaces_per_user}.",
            hint="Delete one that you need no more: lease workspace ls, lease workspace rm NAME",
        )


def _quota(text: str | None, principal: Principal, limits: LimitSettings) -> int | None:
    if text is None:
        return limits.default_workspace_bytes or None
    size = parse_size(text)
    if size < LEAST_BYTES:
        raise Invalid(
            f"{text!r} is too little for a workspace: the least is {format_size(LEAST_BYTES)}.",
            hint="Write it like 500M or 50G.",
        )
    if size > limits.max_workspace_bytes and not principal.admin:
        raise OverQuota(
            f"A workspace may have {format_size(limits.max_workspace_bytes)} at most.",
            hint=f"Ask for --quota {format_size(limits.max_workspace_bytes)}, or an admin for more.",
        )
    return size


def _check_there(session: Session, found: Found) -> None:
    lost = session.execute(
        sa.select(Node.name).where(Node.id == found.row.node_id, Node.health == NodeHealth.LOST)
    ).scalar_one_or_none()
    if lost is not None:
        raise Conflict(
            f"Workspace {found.ref} was on node {lost}, which is lost.",
            hint=f"To begin anew, without its files: lease workspace rm {found.ref}",
        )


def _check_size(found: Found) -> None:
    row = found.row
    watched = row.kind == WorkspaceKind.VOLUME and row.quota_bytes is not None and row.size_bytes is not None
    if watched and (row.size_bytes or 0) > (row.quota_bytes or 0):
        raise OverQuota(
            f"Workspace {found.ref} holds {format_size(row.size_bytes or 0)}; "
            f"its quota is {format_size(row.quota_bytes or 0)}.",
            hint=f"Give it more (lease workspace set {found.ref} --quota "
            f"{format_size(2 * (row.size_bytes or 0))}), or only read it: --workspace {found.ref}{names.READ_ONLY}",
        )


def _check_free(session: Session, found: Found) -> None:
    holder = _holder(session, found.row.id)
    if holder is not None:
        raise Conflict(
            f"Workspace {found.ref!r} is in use by lease {holder!r}; it has one writer at a time.",
            hint=f"Release that lease first: lease release {holder}. "
            f"Or read beside it: --workspace {found.ref}{names.READ_ONLY}",
        )


def _holder(session: Session, workspace_id: UUID) -> str | None:
    return session.execute(
        sa.select(Lease.name).where(
            Lease.workspace_id == workspace_id,
            Lease.state.in_(CLAIMING),
            sa.not_(Lease.workspace_read_only),
        )
    ).scalar_one_or_none()


def _record(session: Session, found: Found, what: str, message: str, principal: Principal) -> None:
    data = {"workspace": str(found.row.id), "ref": found.ref}
    events.record(session, f"workspace.{what}", message, actor=principal.actor, data=data)
