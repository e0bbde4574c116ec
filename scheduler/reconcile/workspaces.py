"""Stage: what is true of workspaces on one node: deleted ones go, those in use are measured, others are ready."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing import names
from leasing.database import Sessions, now
from leasing.drivers.protocol import Lifecycle
from leasing.errors import DriverError, EngineDown
from leasing.model import Event, Lease, Workspace, WorkspaceExport
from leasing.service import events, exports
from leasing.states import HOLDING, LeaseState, WorkspaceKind
from leasing.units import format_size
from scheduler import attaching, patience

log = logging.getLogger(__name__)
ACTOR = "reconciler"
AT_A_TIME = 4
"""So many are measured in one pass: measuring reads the disk."""
USED_EVERY = timedelta(minutes=1)
NEARLY_FULL = 0.9
_ATTACHED = sa.exists().where(Lease.workspace_id == Workspace.id, Lease.state.in_(HOLDING))


class Workspaces:
    """Remembers what is set up in which life of an engine, and which volumes without a row it has told of."""

    def __init__(
        self, sessions: Sessions, installation: str, *, measure_seconds: float, missing_seconds: float
    ) -> None:
        self._sessions = sessions
        self._installation = installation
        self._every = timedelta(seconds=measure_seconds)
        self._missing_seconds = missing_seconds
        self._ready: dict[UUID, tuple[str | None, int | None]] = {}
        self._told: set[tuple[UUID, str]] = set()

    def run_once(self, engine: Lifecycle, node_id: UUID) -> None:
        """Raises `EngineDown`."""
        self._remove_deleted(engine, node_id)
        self._set_up(engine, node_id)
        self._note_use(node_id)
        self._measure(engine, node_id)
        self._report_unknown(engine, node_id)

    def _remove_deleted(self, engine: Lifecycle, node_id: UUID) -> None:
        """The row says that it is to go, before and after: a process killed in between only does it again.

        One that is not there right after its engine's start may yet come back, and is to go then.
        """
        used = sa.exists().where(Lease.workspace_id == Workspace.id, Lease.state != LeaseState.ENDED)
        read = sa.exists().where(
            WorkspaceExport.workspace_id == Workspace.id, WorkspaceExport.until > sa.func.now()
        )
        with self._sessions() as session:
            doomed = list(
                session.execute(
                    sa.select(Workspace.id).where(
                        Workspace.node_id == node_id, Workspace.deleted_at.is_not(None),
                        Workspace.removed_at.is_(None), ~used, ~read,
                    )
                ).scalars()
            )  # fmt: skip
        if not doomed:
            return
        there = set(engine.volumes(self._installation))
        awaited = patience.until(self._sessions, node_id, engine.epoch(), self._missing_seconds) is not None
        for workspace_id in doomed:
            volume = names.volume(self._installation, workspace_id)
            if awaited and volume not in there:
                continue
            try:
                engine.remove_volume(volume)
            except EngineDown:
                raise
            except DriverError as error:  # a container that is on its way out has it still
                log.warning("workspace resists id=%s error=%s", workspace_id, error)
                continue
            with self._sessions.begin() as session:
                session.execute(
                    sa.update(Workspace).where(Workspace.id == workspace_id).values(removed_at=sa.func.now())
                )
                events.record(
                    session, "workspace.removed", "the volume of a deleted workspace is gone",
                    actor=ACTOR, node_id=node_id, data={"workspace": str(workspace_id)},
                )  # fmt: skip

    def _set_up(self, engine: Lifecycle, node_id: UUID) -> None:
        """After a restart of the machine what has a hard quota is set up again, so that it can be read by whomever,
        and grown when it was given more."""
        with self._sessions() as session:
            rows = session.execute(
                sa.select(Workspace.id, Workspace.quota_bytes).where(
                    Workspace.node_id == node_id, Workspace.deleted_at.is_(None),
                    Workspace.kind == WorkspaceKind.QUOTA,
                )
            ).all()  # fmt: skip
        if not rows:
            return
        epoch = engine.epoch()
        for workspace_id, quota in rows:
            if self._ready.get(workspace_id) == (epoch, quota):
                continue
            try:
                attaching.ready(self._sessions, engine, workspace_id, self._installation)
            except EngineDown:
                raise
            except DriverError as error:
                log.warning("workspace not set up id=%s error=%s", workspace_id, error)
            # told once; the next start with it tries again, and says so
            self._ready[workspace_id] = epoch, quota

    def _note_use(self, node_id: UUID) -> None:
        with self._sessions.begin() as session:
            exports.prune(session)
            session.execute(
                sa.update(Workspace)
                .where(
                    Workspace.node_id == node_id,
                    _ATTACHED,
                    Workspace.last_used_at < now(session) - USED_EVERY,
                )
                .values(last_used_at=sa.func.now())
            )

    def _measure(self, engine: Lifecycle, node_id: UUID) -> None:
        """Those that may have changed since, the longest unmeasured first."""
        with self._sessions() as session:
            moment = now(session)
            due = sa.or_(
                Workspace.measured_at.is_(None),
                sa.and_(
                    Workspace.measured_at < moment - self._every,
                    sa.or_(_ATTACHED, Workspace.measured_at < Workspace.last_used_at + USED_EVERY),
                ),
            )
            ids = list(
                session.execute(
                    sa.select(Workspace.id)
                    .where(
                        Workspace.node_id == node_id, Workspace.deleted_at.is_(None),
                        Workspace.last_used_at.is_not(None), due,
                    )
                    .order_by(Workspace.measured_at.asc().nulls_first())
                    .limit(AT_A_TIME)
                ).scalars()
            )  # fmt: skip
        if not ids:
            return
        by_volume = {names.volume(self._installation, one): one for one in ids}
        sizes = {by_volume[name]: size for name, size in engine.volume_sizes(list(by_volume)).items()}
        with self._sessions.begin() as session:
            rows = session.execute(
                sa.select(Workspace)
                .where(Workspace.id.in_(ids))
                .order_by(Workspace.id)
                .with_for_update(key_share=True)
            ).scalars()
            for row in rows:
                row.measured_at = now(session)  # also if that failed: the others are to have their turn
                if row.id in sizes:
                    row.size_bytes = sizes[row.id]
                    _warn(session, row)

    def _report_unknown(self, engine: Lifecycle, node_id: UUID) -> None:
        """Volumes of this installation that no row knows are somebody's work, and never removed by the platform."""
        found = engine.volumes(self._installation)
        with self._sessions.begin() as session:
            known = {
                names.volume(self._installation, one)
                for one in session.execute(sa.select(Workspace.id)).scalars()
            }
            unknown = sorted(set(found) - known)
            fresh = [
                name for name in unknown if (node_id, name) not in self._told and not _recorded(session, name)
            ]
            for name in fresh:
                log.warning("volume without a workspace node=%s name=%s", node_id, name)
                events.record(
                    session, "workspace.unknown_volume", f"volume {name} belongs to no workspace; it is left alone",
                    actor=ACTOR, node_id=node_id, data={"volume": name},
                )  # fmt: skip
        self._told |= {(node_id, name) for name in unknown}


def _recorded(session: Session, name: str) -> bool:
    """By an earlier process, or by another one."""
    return session.execute(
        sa.select(
            sa.exists().where(Event.kind == "workspace.unknown_volume", Event.data["volume"].astext == name)
        )
    ).scalar_one()


def _warn(session: Session, row: Workspace) -> None:
    """Once, when it is nearly full; again when it has been less full since."""
    full = row.quota_bytes is not None and (row.size_bytes or 0) >= NEARLY_FULL * row.quota_bytes
    if not full or row.quota_bytes is None or row.size_bytes is None:
        row.warned_at = None
        return
    if row.warned_at is not None:
        return
    row.warned_at = now(session)
    message = (
        f"workspace {row.name} holds {format_size(row.size_bytes)} of {format_size(row.quota_bytes)}: "
        f"delete something, or give it more (lease workspace set {row.name} --quota {format_size(2 * row.quota_bytes)})"
    )
    for lease_id in _users(session, row.id) or [None]:
        events.record(
            session, "workspace.nearly_full", message,
            actor=ACTOR, lease_id=lease_id, node_id=row.node_id, data={"workspace": str(row.id)},
        )  # fmt: skip


def _users(session: Session, workspace_id: UUID) -> Sequence[UUID | None]:
    return list(
        session.execute(
            sa.select(Lease.id).where(Lease.workspace_id == workspace_id, Lease.state.in_(HOLDING))
        ).scalars()
    )
