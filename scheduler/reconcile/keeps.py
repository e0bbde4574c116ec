"""Stage: leases that are kept. Commands are run inside them, and the keep of each running lease is a signal.

Exit code 0 keeps, any other ends the keep. An engine that does not answer, or a command that takes too long, says
nothing, and one that the machine had no room for or killed neither: then the signal falls silent, which is unknown, and
unknown never reclaims.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing import names
from leasing.database import Sessions, now
from leasing.drivers.protocol import Ran
from leasing.errors import DriverError
from leasing.model import Keep, Lease, SignalKind
from leasing.service import keeps, signals
from leasing.service.signals import Observation
from leasing.states import LeaseState
from scheduler.fleet import Fleet

log = logging.getLogger(__name__)
ACTOR = "keeper"
EVERY = timedelta(seconds=25)
SECONDS = 10.0
KNOWN = EVERY + timedelta(seconds=SECONDS)
"""So long an answer counts."""
SIDE_BY_SIDE = 8
KILLED, NOT_BEGUN = 137, 126
NO_ROOM = ("resource temporarily unavailable", "cannot allocate memory", "no space left on device")
"""With which an engine begins no command: no processes, memory or disk are left."""
PATIENCE_SECONDS = 1.0
"""So long a pass waits for answers; later ones are taken in the next."""

DUE = sa.text("""
    SELECT lease.id, keep.command, keep.created_at, generation, node.id AS node_id, driver, node.address
    FROM keep JOIN lease ON lease.id = keep.lease_id
    JOIN run ON run.lease_id = lease.id AND run.released_at IS NULL JOIN node ON node.id = run.node_id
    WHERE lease.state = :state AND keep.command IS NOT NULL
        AND (keep.checked_at IS NULL OR keep.checked_at < :before)
""")


@dataclass(frozen=True)
class _Answer:
    """What a command said: `exit_code`, or None with the reason why that is not known."""

    lease_id: UUID
    created_at: datetime
    exit_code: int | None
    why: str = ""
    output: str = ""


class Keeps:
    """Asks commands beside its passes: one that hangs holds up neither the others nor what is said of all leases."""

    def __init__(self, sessions: Sessions, fleet: Fleet, installation: str) -> None:
        self._sessions = sessions
        self._fleet = fleet
        self._installation = installation
        self._pool = ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="keep")
        self._asked: dict[UUID, Future[_Answer]] = {}

    def run_once(self) -> None:
        """Ask every command that is due, take what was answered, and say of each running lease whether it is kept."""
        with self._sessions() as session:
            due = session.execute(
                DUE, {"state": LeaseState.RUNNING.value, "before": now(session) - EVERY}
            ).all()
        for one in due:
            if one.id not in self._asked:
                self._asked[one.id] = self._pool.submit(_asked, self._fleet, self._installation, one)
        wait(self._asked.values(), timeout=PATIENCE_SECONDS)
        for lease_id in [key for key, future in self._asked.items() if future.done()]:
            with self._sessions.begin() as session:
                _take(session, self._asked.pop(lease_id).result(), now(session))
        with self._sessions.begin() as session:
            _observe(session, now(session))

    def close(self) -> None:
        """Ask no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _asked(fleet: Fleet, installation: str, due: Any) -> _Answer:
    container = names.container(installation, due.id, due.generation)
    try:
        ran = fleet.connected(due.node_id, due.driver, due.address).run(
            container, due.command, seconds=SECONDS
        )
    except DriverError as error:
        return _Answer(due.id, due.created_at, None, f"its engine does not say: {error.message}")
    if ran.exit_code is None:
        return _Answer(due.id, due.created_at, None, f"the command took longer than {SECONDS:.0f} seconds")
    if (why := _prevented(ran)) is not None:
        return _Answer(due.id, due.created_at, None, f"the command could not be run: {why}")
    return _Answer(due.id, due.created_at, ran.exit_code, output=ran.output)


def _prevented(ran: Ran) -> str | None:
    """What kept a command from answering, where that was the machine's doing: then the exit code is not its own."""
    if ran.exit_code == KILLED:
        return "it was killed, as it is where the lease's memory is full"
    said = ran.output.strip()
    if ran.exit_code == NOT_BEGUN and any(words in said.lower() for words in NO_ROOM):
        return said.splitlines()[-1][:200]
    return None


def _take(session: Session, answer: _Answer, moment: datetime) -> None:
    keep = session.execute(
        sa.select(Keep)
        # another keep may have been asked for meanwhile
        .where(Keep.lease_id == answer.lease_id, Keep.created_at == answer.created_at)
        .with_for_update()
    ).scalar_one_or_none()
    if keep is None:
        return
    if answer.exit_code is None:
        if keep.message != answer.why:
            log.info("keep not known lease=%s why=%s", answer.lease_id, answer.why)
        keep.message = answer.why
        return
    keep.checked_at, keep.exit_code, keep.message = moment, answer.exit_code, ""
    if answer.exit_code != 0:
        said = answer.output.strip().splitlines()
        last = f": {said[-1][:200]}" if said else ""
        keeps.drop(session, keep, f"exit code {answer.exit_code}{last}", actor=ACTOR, now=moment)


def _observe(session: Session, moment: datetime) -> None:
    """Of each running lease whether it is kept; of one whose command has not answered, nothing."""
    observations = []
    # before the leases: a keep that is asked for meanwhile has said so itself
    kept = {keep.lease_id: keep for keep in session.execute(sa.select(Keep).with_for_update()).scalars()}
    states = dict(
        session.execute(
            sa.select(Lease.id, Lease.state).where(
                sa.or_(Lease.state == LeaseState.RUNNING, Lease.id.in_(kept))
            )
        ).all()
    )
    for lease_id, state in states.items():
        keep = kept.get(lease_id)
        if keep is not None and state in (LeaseState.SUSPENDED, LeaseState.ENDED):
            keeps.drop(session, keep, f"it is {state}", actor=ACTOR, now=moment)
        elif keep is not None and keep.until is not None and keep.until <= moment:
            keeps.drop(session, keep, "the time is over", actor=ACTOR, now=moment)
        elif state == LeaseState.RUNNING and (
            keep is None
            or keep.command is None
            or (keep.checked_at is not None and moment - keep.checked_at <= KNOWN)
        ):
            observations.append(Observation(lease_id, SignalKind.KEEP, 0.0 if keep is None else 1.0))
    signals.observe(session, observations, now=moment)
