"""Stage: is every running lease's container still there and running, and what follows if not?"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing import names
from leasing.database import Sessions, now
from leasing.drivers.protocol import Container
from leasing.errors import DriverError, EngineDown
from leasing.model import Lease, Run
from leasing.service import closing, events, transitions
from leasing.states import Cause, Goal, LeaseState
from scheduler import patience
from scheduler.fleet import Fleet
from scheduler.policy import fate
from scheduler.policy.fate import Fate, Outcome, Seen

log = logging.getLogger(__name__)
ACTOR = "reconciler"
RUNNING = sa.text("""
    SELECT run.id, lease_id, generation, run.epoch, run.address, missing_since, warm.id AS sandbox, driver,
        node.address AS reached_at
    FROM run JOIN lease ON lease.id = run.lease_id JOIN node ON node.id = run.node_id
    LEFT JOIN warm ON warm.id = run.warm_id AND warm.role = 'sandbox'
    WHERE run.node_id = :node AND run.released_at IS NULL AND lease.state = :state
""")
# Not with every look: nobody asks for it more closely than the hours of use do. And not while a container is awaited or
# cannot be looked at: nobody can say that it runs. One far ahead is of a clock that was set back: it would prove hours
# that are yet to come.
COMPARED = sa.text("""
    UPDATE counting SET compared_at = :moment
    WHERE node_id = :node AND coalesce(
        compared_at NOT BETWEEN CAST(:moment AS timestamptz) - interval '2 seconds'
            AND CAST(:moment AS timestamptz) + interval '2 minutes',
        true
    )
""")


@dataclass(frozen=True)
class OpenRun:
    """A run of a lease that is running as far as its row says."""

    run_id: UUID
    lease_id: UUID
    container: str
    epoch: str | None
    address: str | None
    missing: bool
    """It was, when last looked for."""
    sandbox: str | None
    """The container whose network it joined."""


def run_once(
    sessions: Sessions,
    fleet: Fleet,
    node_id: UUID,
    installation: str,
    ended: Collection[str] = (),
    *,
    missing_seconds: float,
) -> int:
    """Compare one node's runs with its engine; how many leases changed. Raises `DriverError`.

    A container that the engine cannot look at, as after damage to its files, is left as it is, and no other with it.
    What is missing is lost once it has been so for `missing_seconds` since its engine's start. `ended` are ids of
    containers to look at one by one: an engine tells of a death before its listing shows it.
    """
    runs, reached, moment = _load(sessions, node_id, installation)
    if reached is None:
        return 0
    engine = fleet.connected(node_id, *reached)
    listed = engine.containers(installation)
    states = {container.name: container.state for container in listed if container.id not in ended}
    epoch = engine.epoch()
    changed, unsure = 0, False
    for run in runs:
        both = {run.container, run.sandbox or run.container}
        if run.epoch == epoch and not run.missing and all(states.get(name) == "running" for name in both):
            continue
        try:
            found = engine.inspect(run.container)
            joined = engine.inspect(run.sandbox) if run.sandbox is not None else found
        except EngineDown:
            raise
        except DriverError as error:
            log.warning("container not looked at lease=%s error=%s", run.lease_id, error)
            unsure = True
            continue
        # Asked after the container was seen, over a fresh connection: an engine that goes down closes its door before
        # it stops its containers, so an answer under the old epoch proves that the death was the container's own.
        seen = _seen(found, joined, engine.probe().epoch)
        if found is None:
            until = patience.until(sessions, node_id, seen.epoch, missing_seconds)
            seen = replace(seen, awaited_until=until)
        outcome = fate.of(seen, run.epoch)
        unsure = unsure or outcome.fate is Fate.AWAIT
        changed += _apply(sessions, run, found, seen, outcome)
    if not unsure:
        with sessions.begin() as session:
            session.execute(COMPARED, {"node": node_id, "moment": moment})
    return changed


def _load(
    sessions: Sessions, node_id: UUID, installation: str
) -> tuple[list[OpenRun], tuple[str, str] | None, datetime]:
    """The node's runs and, if there are any, by which driver and address it is reached; and when that was."""
    with sessions() as session:
        moment = now(session)
        rows = session.execute(RUNNING, {"node": node_id, "state": LeaseState.RUNNING.value}).all()
    runs = [
        OpenRun(
            row.id,
            row.lease_id,
            names.container(installation, row.lease_id, row.generation),
            row.epoch,
            row.address,
            row.missing_since is not None,
            names.warm(installation, row.sandbox) if row.sandbox is not None else None,
        )
        for row in rows
    ]
    return runs, (rows[0].driver, rows[0].reached_at) if rows else None, moment


def _seen(found: Container | None, joined: Container | None, epoch: str | None) -> Seen:
    if found is None:
        return Seen(present=False, running=False, epoch=epoch)
    return Seen(
        present=True,
        running=found.running,
        networked=joined is not None and joined.running,
        epoch=epoch,
        exit_code=found.exit_code,
        oom_killed=found.oom_killed,
        error=found.error,
    )


def _apply(sessions: Sessions, run: OpenRun, found: Container | None, seen: Seen, outcome: Outcome) -> int:
    with sessions.begin() as session:
        lease = session.execute(
            sa.select(Lease)
            .where(Lease.id == run.lease_id, Lease.state == LeaseState.RUNNING)
            .with_for_update(key_share=True)
        ).scalar_one_or_none()
        row = session.get_one(Run, run.run_id)
        if lease is None or row.released_at is not None or row.epoch != run.epoch:
            return 0  # it moved on while the engine was asked
        if outcome.fate is Fate.KEEP:
            assert found is not None, "only a container that was seen is kept"
            row.epoch, row.address = seen.epoch, found.address
            if row.missing_since is not None:
                row.missing_since, lease.message = None, ""
            return 0
        if outcome.fate is Fate.AWAIT:
            _await(session, lease, row, outcome.message)
            return 0
        log.warning("container changed lease=%s fate=%s message=%s", lease.id, outcome.fate, outcome.message)
        _follow(session, lease, row, found, outcome)
        return 1


def _await(session: Session, lease: Lease, run: Run, message: str) -> None:
    """It runs on as far as its row says; whoever asks is told, and whoever watches once."""
    lease.message = message
    if run.missing_since is None:
        run.missing_since = now(session)
        log.warning("container missing lease=%s message=%s", lease.id, message)
        events.record(session, "lease.missing", message, actor=ACTOR, lease_id=lease.id, node_id=run.node_id)


def _follow(session: Session, lease: Lease, run: Run, found: Container | None, outcome: Outcome) -> None:
    moment = now(session)
    run.stopped_at = _stopped_at(session, run, found, moment)
    run.missing_since = None
    if outcome.fate is Fate.RESTART:
        run.stop_first = run.stop_first or (found is not None and found.running)
        transitions.move(
            session,
            lease,
            LeaseState.STARTING,
            Cause.RECONCILER,
            now=moment,
            actor=ACTOR,
            message=outcome.message,
        )
        return
    if outcome.fate is Fate.STOP:
        assert found is not None, "a missing container is lost, not stopped"
        lease.exit_code, lease.oom_killed = found.exit_code, found.oom_killed
        transitions.move(
            session, lease, LeaseState.STOPPING, Cause.RECONCILER,
            now=moment, actor=ACTOR, message=outcome.message, reason=outcome.reason, goal=Goal.ENDED,
        )  # fmt: skip
        return
    closing.close(session, [run], now=moment)
    transitions.move(
        session, lease, LeaseState.ENDED, Cause.RECONCILER,
        now=moment, actor=ACTOR, message=outcome.message, reason=outcome.reason,
    )  # fmt: skip


def _stopped_at(session: Session, run: Run, found: Container | None, moment: datetime) -> datetime:
    """When its container stopped: as the engine says, but not before it was last seen to run.

    Of one that the engine does not know any more nothing else is known: what nobody saw is not counted as used.
    """
    seen = closing.last_seen(session, [run.id]).get(run.id)
    finished = found.finished_at if found else None
    known = [at for at in (seen, finished) if at is not None]
    return min(moment, max(known)) if known else moment
