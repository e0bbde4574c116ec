"""Handing claimed leases to workers: any number of starts and stops side by side, none of them ever twice."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from sqlalchemy.orm import Session

from leasing.database import Sessions, now
from leasing.settings.scheduler import SchedulerSettings
from leasing.states import TRANSITIONAL
from scheduler import claims, jobs
from scheduler.claims import Claim
from scheduler.jobs import Job
from scheduler.starting import Starter
from scheduler.stopping import Stopper

log = logging.getLogger(__name__)

Task = tuple[Job, Callable[[Job], None]]
"""A claimed lease, and what is to be done with it."""


class Workers:
    """A pool of threads fed by claims; keeps the claims of what is under way."""

    def __init__(
        self,
        sessions: Sessions,
        starter: Starter,
        stopper: Stopper,
        *,
        installation: str,
        owner: str,
        settings: SchedulerSettings,
    ) -> None:
        self._sessions = sessions
        self._starter = starter
        self._stopper = stopper
        self._installation = installation
        self._owner = owner
        self._settings = settings
        self._pool = ThreadPoolExecutor(settings.workers, thread_name_prefix="worker")
        self._lock = threading.Lock()
        self._busy: set[Claim] = set()
        self._more = False
        self.idle: Callable[[], None] = lambda: None
        """Called when a worker is free again."""

    def dispatch(self) -> int:
        """Claim what there is to do, as much as there are free workers; how many were taken."""
        if not self._free:
            self._more = True
            return 0
        with self._sessions.begin() as session:
            taken = self.claim(session)
        self.hand_out(taken)
        return len(taken)

    @property
    def more(self) -> bool:
        """Whether the last look took as much as there were free workers for: there may be more to do."""
        return self._more

    def claim(self, session: Session) -> list[Task]:
        """What there is to do, claimed in the caller's transaction; hand it out once that is committed."""
        free = self._free
        taken = claims.take(
            session, TRANSITIONAL, owner=self._owner, limit=free, seconds=self._settings.claim_seconds
        )
        self._more = len(taken) >= free
        return [
            (job, self._stopper.stop if job.stops else self._starter.start)
            for job in jobs.of(session, taken, self._installation)
        ]

    def hand_out(self, taken: Iterable[Task]) -> None:
        """Set workers to what was claimed; more than there are free ones wait their turn, claimed."""
        for job, work in taken:
            with self._lock:
                self._busy.add(job.claim)
            self._pool.submit(work, job).add_done_callback(partial(self._done, job.claim))

    @property
    def _free(self) -> int:
        with self._lock:
            return max(0, self._settings.workers - len(self._busy))

    @property
    def busy(self) -> int:
        """Starts and stops under way."""
        with self._lock:
            return len(self._busy)

    def keep(self) -> None:
        """Extend the claims of what is under way."""
        with self._lock:
            busy = set(self._busy)
        with self._sessions.begin() as session:
            claims.extend(session, busy, seconds=self._settings.claim_seconds, now=now(session))

    def stop(self) -> None:
        """Start nothing more; what is under way goes on until the process ends, and its claim runs out."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _done(self, claim: Claim, future: Future[None]) -> None:
        with self._lock:
            self._busy.discard(claim)
        if not future.cancelled() and (error := future.exception()) is not None:
            # the claim runs out, and another worker tries; a database that went away is the usual case
            log.error("work failed lease=%s error=%r", claim.lease_id, error)
        self.idle()
