"""Whether the database's clock can be believed: it is the only "now" there is, and it may be set while leases run."""

from __future__ import annotations

import logging
import threading
import time
from datetime import datetime, timedelta

import sqlalchemy as sa

from leasing.database import Sessions
from leasing.model import Counting, Installation

log = logging.getLogger(__name__)
MAX_JUMP = timedelta(seconds=60)


class Clock:
    """Watched by whatever acts on time alone: nothing that cannot be undone follows from a clock that has just jumped.

    While a scheduler runs, the clock is held against the machine's own steady one. At its start it is held against the
    last moment that the database remembers of any scheduler: nobody can tell a clock that is wrong from a time in
    which none ran, so both are a jump. The last one is kept with the installation, for whoever starts while it is new.
    """

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._lock = threading.Lock()
        self._seen: tuple[datetime, float] | None = None
        self._jumped_at: datetime | None = None

    def watch(self, moment: datetime) -> None:
        """To be told the database's now before anything is decided by it, or written that says when it was."""
        with self._lock:
            steady = time.monotonic()
            if self._seen is None:
                drift = self._since_last_remembered(moment)
            else:
                drift = moment - self._seen[0] - timedelta(seconds=steady - self._seen[1])
            if abs(drift) > MAX_JUMP:
                log.warning("the clock jumped, or nobody watched it, by=%.0fs", drift.total_seconds())
                self._remember(moment)
            self._seen = (moment, steady)

    def thaw(self, after: timedelta, moment: datetime) -> datetime | None:
        """When it will be so long after the last jump, if that is still to come."""
        if self._jumped_at is None:
            return None
        thaw = self._jumped_at + after
        return thaw if self._jumped_at - MAX_JUMP <= moment < thaw else None

    def _since_last_remembered(self, moment: datetime) -> timedelta:
        """None at all at the first start ever."""
        with self._sessions() as session:
            looked_at = sa.select(sa.func.max(Counting.looked_at)).scalar_subquery()
            jumped_at = sa.select(Installation.clock_jumped_at).scalar_subquery()
            last, self._jumped_at = session.execute(sa.select(looked_at, jumped_at)).one()
        return timedelta(0) if last is None else moment - last

    def _remember(self, moment: datetime) -> None:
        with self._sessions.begin() as session:
            session.execute(sa.update(Installation).values(clock_jumped_at=moment))
        self._jumped_at = moment
