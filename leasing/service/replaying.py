"""What leases did lately, for trying another policy on it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing import policy_terms
from leasing.errors import Invalid
from leasing.gpus import WHOLE
from leasing.model import Activity, Lease, Project, Run, User
from leasing.schema.activity import ActivityLease, ActivityPage, ActivityRun
from leasing.service import activity, policies, projects, signals
from leasing.settings.idle import IdleSettings

MAX_PAGE = 50
MINUTE = timedelta(minutes=1)


def page(
    session: Session, *, days: int, project: str | None, cursor: str | None, limit: int, now: datetime
) -> ActivityPage:
    """Leases that ran within the last `days`, in order of arrival; of one `project`, or of all.

    Raises `Invalid` for a cursor that is none, `NotFound` for the project.
    """
    since = now - timedelta(days=days)
    statement = (
        sa.select(Lease, User.name, Project.name)
        .join(User, User.id == Lease.owner_id)
        .join(Project, Project.id == Lease.project_id)
        .where(
            sa.exists().where(
                Run.lease_id == Lease.id,
                Run.started_at.is_not(None),
                sa.or_(Run.released_at.is_(None), Run.released_at > since),
            )
        )
        .order_by(Lease.arrival)
        .limit(min(limit, MAX_PAGE) + 1)
    )
    if project is not None:
        statement = statement.where(Lease.project_id == projects.find(session, project).id)
    if cursor is not None:
        if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
            raise Invalid(
                f"{cursor[:40]!r} is not a page's cursor.", hint="Take it from `next` of the page before."
            )
        statement = statement.where(Lease.arrival > int(cursor))
    found = session.execute(statement).all()
    rows = found[: min(limit, MAX_PAGE)]
    leases = [lease for lease, *_ in rows]
    rules = policies.effective(session, leases)
    runs = _runs(session, leases, since, now)
    return ActivityPage(
        since=since,
        until=now,
        thresholds=dict(IdleSettings().thresholds()),
        items=[
            ActivityLease(
                id=lease.id,
                name=lease.name,
                owner=owner,
                project=of,
                environment=lease.image,
                devices=lease.gpu_count * lease.gpu_share / WHOLE,
                idle_timeout_seconds=lease.idle_timeout_seconds,
                policy=policy_terms.rule_out(rules[lease.id]),
                runs=runs[lease.id],
            )
            for lease, owner, of in rows
        ],
        next=str(rows[-1][0].arrival) if len(found) > len(rows) else None,
    )


def minutes(session: Session, *, days: int, project: str | None, now: datetime) -> float:
    """How many minutes of leases there are to play: those of `page`, all together. Raises `NotFound`."""
    since = now - timedelta(days=days)
    end = sa.func.coalesce(Run.stopped_at, Run.released_at, now)
    statement = sa.select(
        sa.func.coalesce(
            sa.func.sum(sa.extract("epoch", end - sa.func.greatest(Run.started_at, since))) / 60, 0
        )
    ).where(Run.started_at.is_not(None), end > since)
    if project is not None:
        statement = statement.join(Lease, Lease.id == Run.lease_id).where(
            Lease.project_id == projects.find(session, project).id
        )
    return float(session.execute(statement).scalar_one())


def _runs(
    session: Session, leases: Sequence[Lease], since: datetime, now: datetime
) -> dict[UUID, list[ActivityRun]]:
    named = {lease.id: lease for lease in leases}
    recorded = activity.of(session, named, begin=since, end=now)
    found: dict[UUID, list[ActivityRun]] = defaultdict(list)
    for run in session.execute(
        sa.select(Run)
        .where(
            Run.lease_id.in_(named),
            Run.started_at.is_not(None),
            sa.or_(Run.released_at.is_(None), Run.released_at > since),
        )
        .order_by(Run.lease_id, Run.generation)
    ).scalars():
        begin, end = run.started_at, run.stopped_at or run.released_at or now
        if begin is None:
            continue
        minutes = [
            one for one in recorded.get(run.lease_id, ()) if begin - MINUTE < one.minute and one.minute < end
        ]
        heard = {kind for one in minutes for kind in one.peaks}
        found[run.lease_id].append(
            ActivityRun(
                started_at=begin,
                ended_at=run.stopped_at or run.released_at,
                applicable=sorted(signals.applicable(named[run.lease_id], run, heard)),
                first=minutes[0].minute if minutes else None,
                peaks=_peaks(minutes, heard),
            )
        )
    return found


def _peaks(minutes: Sequence[Activity], heard: Iterable[str]) -> dict[str, list[float | None]]:
    if not minutes:
        return {}
    length = int((minutes[-1].minute - minutes[0].minute) / MINUTE) + 1
    found: dict[str, list[float | None]] = {kind: [None] * length for kind in sorted(heard)}
    for one in minutes:
        for kind, peak in one.peaks.items():
            found[kind][int((one.minute - minutes[0].minute) / MINUTE)] = float(f"{peak:.4g}")
    return found
