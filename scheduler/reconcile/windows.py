"""The stage that learns windows, for policies that want them learned: from what leases under them did until now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from leasing.database import Sessions, now
from leasing.model import Activity, Event, LearnedWindow, Lease, Policy, Run
from leasing.reclaim import Rule
from leasing.service import policies, signals
from leasing.settings.idle import IdleSettings
from leasing.settings.limits import LimitSettings
from leasing.states import LIVE, LeaseState, SuspendReason
from scheduler.policy.quiet import Watched
from scheduler.policy.replay import MINUTE, Minute
from scheduler.policy.windows import Gaps

LOOK_BACK = timedelta(days=2)
"""So much of the record is read at the start, and after a policy was changed."""
SETTLED = timedelta(minutes=2)
"""A minute is recorded once so much time has passed since it began."""
KEY = ("policy_id", "owner_id", "project_id", "environment")
COLUMNS = (*KEY, "window_seconds", "gaps", "learned_at")
LEARNING = sa.select(Policy).where(Policy.learned).order_by(Policy.id)
Group = tuple[UUID, UUID, str]
"""Owner, project, environment: whose leases are taken to be used alike."""


@dataclass
class _Taught:
    """What was seen so far. It only repeats what is recorded, and is read anew by the next process."""

    gaps: defaultdict[str, Gaps] = field(default_factory=lambda: defaultdict(Gaps))
    """By policy."""
    watched: defaultdict[UUID, Watched] = field(default_factory=lambda: defaultdict(Watched))
    heard: defaultdict[UUID, set[str]] = field(default_factory=lambda: defaultdict(set))
    until: datetime | None = None


class Windows:
    """Any number may run beside each other: they learn the same from the same record."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._taught = _Taught()
        self._of: Sequence[object] = ()

    def run_once(self) -> None:
        """Learn from what was recorded since the last time, and write down what counts from now on."""
        with self._sessions() as session:
            moment = now(session)
            learning = {policy.name: policy for policy in session.execute(LEARNING).scalars()}
            terms = [(policy.id, policy.updated_at) for policy in learning.values()]
            if terms != self._of:
                self._taught, self._of = _Taught(), terms
            if learning:
                self._read(session, learning.keys(), moment)
        with self._sessions.begin() as session:
            _write(session, self._learned(session, learning, moment))

    def _read(self, session: Session, learning: Collection[str], moment: datetime) -> None:
        begin, end = self._taught.until or moment - LOOK_BACK, moment - SETTLED
        leases = {
            lease.id: lease
            for lease in session.execute(
                sa.select(Lease).where(sa.or_(Lease.state.in_(LIVE), Lease.ended_at >= begin))
            ).scalars()
        }
        ruled = policies.effective(session, list(leases.values())).items()
        rules = {lease_id: rule for lease_id, rule in ruled if rule.policy in learning}
        runs = _runs(session, rules)
        happened = [*_minutes(session, rules, begin, end), *_changes(session, rules, begin, end)]
        platform = IdleSettings().thresholds()
        for at, lease_id, what in sorted(happened, key=lambda one: one[:2]):
            lease, rule, watched = leases[lease_id], rules[lease_id], self._taught.watched[lease_id]
            seconds: float | None = None
            if isinstance(what, Minute):
                run = next((one for one in runs[lease_id] if one[1] < at + MINUTE), None)
                heard = self._taught.heard[lease_id]
                heard |= what.peaks.keys()
                if run is not None:
                    seconds = watched.see(
                        what,
                        limits={**platform, **rule.thresholds},
                        applicable=signals.applicable(lease, run[0], heard),
                        counted_from=run[1] + timedelta(seconds=rule.grace_seconds),
                    )
            elif what == LeaseState.STOPPING:
                watched.taken_back()
            else:
                seconds = watched.came_back(at)
            if seconds is not None:
                self._taught.gaps[rule.policy].add(_group(lease), seconds)
        self._taught.until = end

    def _learned(
        self, session: Session, learning: Mapping[str, Policy], moment: datetime
    ) -> list[dict[str, object]]:
        """What counts for whoever has a lease, as rows in the order of their keys."""
        least = LimitSettings().min_idle_timeout_seconds
        leases = {
            lease.id: lease
            for lease in session.execute(sa.select(Lease).where(Lease.state.in_(LIVE))).scalars()
        }
        ruled = policies.effective(session, list(leases.values())) if learning else {}
        wanted = {
            (rule.policy, _group(leases[lease_id]))
            for lease_id, rule in ruled.items()
            if rule.policy in learning
        }
        rows: list[dict[str, object]] = []
        for name, group in sorted(wanted):
            policy = learning[name]
            most = policy.window_seconds or Rule.window_seconds
            learned = self._taught.gaps[name].learned(group, least=min(least, most), most=most)
            if learned is not None:
                values = (policy.id, *group, round(learned.seconds), learned.gaps, moment)
                rows.append(dict(zip(COLUMNS, values, strict=True)))
        return rows


def _group(lease: Lease) -> Group:
    return lease.owner_id, lease.project_id, lease.image


def _runs(session: Session, leases: Collection[UUID]) -> Mapping[UUID, list[tuple[Run, datetime]]]:
    """Of each lease, its runs with their starts, the latest first."""
    found: defaultdict[UUID, list[tuple[Run, datetime]]] = defaultdict(list)
    for run in session.execute(
        sa.select(Run).where(Run.lease_id.in_(leases)).order_by(Run.generation.desc())
    ).scalars():
        if run.started_at is not None:
            found[run.lease_id].append((run, run.started_at))
    return found


def _minutes(
    session: Session, leases: Collection[UUID], begin: datetime, end: datetime
) -> Iterator[tuple[datetime, UUID, Minute]]:
    rows = session.execute(
        sa.select(Activity.minute, Activity.lease_id, Activity.peaks).where(
            Activity.lease_id.in_(leases), Activity.minute >= begin, Activity.minute < end
        )
    )
    for minute, lease_id, peaks in rows:
        yield minute, lease_id, Minute(minute, peaks)


def _changes(
    session: Session, leases: Collection[UUID], begin: datetime, end: datetime
) -> Iterator[tuple[datetime, UUID, str | None]]:
    """When leases were taken back as idle, and when they went on or ended."""
    idle = sa.and_(
        Event.to_state == LeaseState.STOPPING, Event.data["reclaimed"].astext == SuspendReason.IDLE
    )
    after = Event.to_state.in_([LeaseState.QUEUED, LeaseState.ENDED])
    rows = session.execute(
        sa.select(Event.at, Event.lease_id, Event.to_state).where(
            Event.lease_id.in_(leases), Event.at >= begin, Event.at < end, sa.or_(idle, after)
        )
    )
    for at, lease_id, state in rows:
        if lease_id is not None:
            yield at, lease_id, state


def _write(session: Session, rows: list[dict[str, object]]) -> None:
    """These and no others. In the order of their keys: two who write at once wait for each other, not in a circle."""
    kept = [tuple(row[name] for name in KEY) for row in rows]
    key = sa.tuple_(*(getattr(LearnedWindow, name) for name in KEY))
    session.execute(sa.delete(LearnedWindow).where(key.not_in(kept) if kept else sa.true()))
    if rows:
        new = insert(LearnedWindow).values(rows)
        session.execute(
            new.on_conflict_do_update(
                index_elements=KEY,
                set_={name: new.excluded[name] for name in COLUMNS if name not in KEY},
            )
        )
