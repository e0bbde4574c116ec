"""Stage: leases that lost a device. Their owners are told, and those that may be are moved to another.

A device is lost to a lease when NVML says so on the node, or when the lease's container does not see it any more.
What a process still has in memory is its owner's to give up: only a lease that was asked for as preemptible, and so is
made to be stopped and to go on, is moved by itself; any other when its owner says so (`lease restart`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing import names
from leasing.database import Sessions, now
from leasing.errors import DriverError
from leasing.model import Lease, SignalKind
from leasing.service import device_faults
from leasing.states import DeviceHealth, LeaseState
from scheduler.fleet import Fleet
from scheduler.policy import inside
from scheduler.policy.inside import Sight

log = logging.getLogger(__name__)
ACTOR = "reconciler"
LOOK_EVERY = timedelta(minutes=5)
LOOK_SECONDS = 20.0
OWN_SECONDS = timedelta(seconds=LOOK_SECONDS + 10)
"""What a container does within this of a look may be the look itself."""
SETTLED = timedelta(seconds=5)
"""A container that has just been started is not looked into yet."""
SIDE_BY_SIDE = 4

RUNS = sa.text("""
    SELECT lease.id AS lease_id, run.id AS run_id, generation, lease.device_fault, lease.preemptible, run.started_at,
        node.id AS node_id, node.driver, node.address,
        array_agg(device.uuid ORDER BY device.index) AS uuids,
        array_agg(device.health ORDER BY device.index) AS healths,
        array_agg('GPU ' || device.index || ' ' || device.model ||
            CASE WHEN device.health_reason = '' THEN '' ELSE ' (' || device.health_reason || ')' END
            ORDER BY device.index) AS words,
        (SELECT max(active_at) FROM signal WHERE signal.lease_id = lease.id AND kind = ANY (:kinds)) AS active_at
    FROM lease
    JOIN run ON run.lease_id = lease.id AND run.released_at IS NULL
    JOIN node ON node.id = run.node_id
    JOIN allocation ON allocation.run_id = run.id AND allocation.released_at IS NULL
    JOIN device ON device.id = allocation.device_id
    WHERE lease.state = :running AND run.started_at IS NOT NULL
    GROUP BY lease.id, run.id, node.id
""")
SHOWS_WORK = [SignalKind.CPU.value, SignalKind.GPU.value, SignalKind.DISK.value]


@dataclass(frozen=True)
class _Looked:
    """The last look inside a run: when by this process's steady clock and by the database's, and what it said."""

    steady: float
    at: datetime
    sight: Sight
    times: int
    """So often in a row the same."""


class LostDevices:
    """Remembers its looks; whoever starts anew looks once more."""

    def __init__(
        self,
        sessions: Sessions,
        fleet: Fleet,
        installation: str,
        *,
        grace_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`grace_seconds`: a device is lost for so long, by `clock`, before a lease is moved away from it."""
        self._sessions = sessions
        self._fleet = fleet
        self._installation = installation
        self._grace = grace_seconds
        self._clock = clock
        self._lost_since: dict[UUID, float] = {}
        self._looked: dict[UUID, _Looked] = {}

    def run_once(self, answering: Collection[UUID]) -> None:
        """One pass over all running leases that have devices; looks only into nodes that are `answering`."""
        values = {"running": LeaseState.RUNNING.value, "kinds": SHOWS_WORK}
        with self._sessions() as session:
            runs = session.execute(RUNS, values).all()
            moment = now(session)
        begun = {run.run_id: run.started_at for run in runs}
        # what was seen before a run was started again says nothing of it now
        self._looked = {
            key: look for key, look in self._looked.items() if key in begun and look.at > begun[key]
        }
        self._lost_since = {key: since for key, since in self._lost_since.items() if key in begun}
        due = [run for run in runs if run.node_id in answering and self._due(run, moment)]
        if due:
            with ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="look-inside") as pool:
                for run, sight in zip(due, pool.map(self._look, due), strict=True):
                    before = self._looked.get(run.run_id)
                    times = before.times + 1 if before and before.sight == sight else 1
                    self._looked[run.run_id] = _Looked(self._clock(), moment, sight, times)
        for run in runs:
            self._judge(run)

    def _due(self, run: Any, moment: datetime) -> bool:
        """Whether to look inside: soon after the start, again if something was wrong, and else only into what has done
        something by itself since: a look costs CPU, and must never be what keeps a lease from being idle."""
        before = self._looked.get(run.run_id)
        if before is None:
            return bool(moment - run.started_at > SETTLED)
        if before.sight.fault and before.times == 1:
            return True
        if self._clock() - before.steady < LOOK_EVERY.total_seconds():
            return False
        return run.active_at is not None and run.active_at > before.at + OWN_SECONDS

    def _look(self, run: Any) -> Sight:
        container = names.container(self._installation, run.lease_id, run.generation)
        try:
            engine = self._fleet.connected(run.node_id, run.driver, run.address)
            ran = engine.run(container, inside.LOOK, seconds=LOOK_SECONDS)
            return inside.judge(ran.exit_code, ran.output, run.uuids)
        except DriverError as error:
            log.info("not looked inside lease=%s error=%s", run.lease_id, error)
            return Sight(known=False)

    def _judge(self, run: Any) -> None:
        gone = [
            word for health, word in zip(run.healths, run.words, strict=True) if health != DeviceHealth.OK
        ]
        lost = DeviceHealth.LOST in run.healths
        if lost:
            self._lost_since.setdefault(run.run_id, self._clock())
        else:
            self._lost_since.pop(run.run_id, None)
        fault = device_faults.words(gone) if gone else self._inside(run)
        if fault is None:
            return
        since = self._lost_since.get(run.run_id)
        moves = run.preemptible and since is not None and self._clock() - since >= self._grace
        if fault == run.device_fault and not moves:
            return
        with self._sessions.begin() as session:
            lease = _locked(session, run.lease_id)
            if lease is None:
                return
            device_faults.tell(session, lease, fault, actor=ACTOR)
            if moves:
                device_faults.move_away(session, lease, actor=ACTOR, now=now(session))

    def _inside(self, run: Any) -> str | None:
        """What is wrong as seen from inside, or nothing. None while unknown: one bad look alone says nothing."""
        look = self._looked.get(run.run_id)
        if look is None or not look.sight.known or (look.sight.fault and look.times == 1):
            return None
        return look.sight.fault


def _locked(session: Session, lease_id: UUID) -> Lease | None:
    return session.execute(
        sa.select(Lease)
        .where(Lease.id == lease_id, Lease.state == LeaseState.RUNNING)
        .with_for_update(key_share=True)
    ).scalar_one_or_none()
