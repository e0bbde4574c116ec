"""What people type in terminals: the only thing about an open terminal that is activity.

One that is silent, or only prints, is quiet. So is what the terminal itself sends: its answers to questions of programs
(where the cursor is, what kind of terminal this is) and that its window gained or lost the focus.
"""

from __future__ import annotations

import logging
import re
import threading
from collections import Counter
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from leasing.database import Sessions, now
from leasing.model import Lease, SignalKind
from leasing.service import signals
from leasing.service.signals import Observation
from leasing.states import LeaseState

log = logging.getLogger(__name__)
FLUSH_SECONDS = 5.0
BY_ITSELF = re.compile(
    rb"\x1b\[(?:[IO]|\??[0-9;]*[cnR]|>[0-9;]*c)|\x1b\](?:1[0-2]|4);[^\x07\x1b]*(?:\x07|\x1b\\)"
)
"""Focus in and out, device attributes, status and cursor reports, colours (xterm's control sequences)."""


def typed(data: bytes) -> int:
    """So many of the bytes that came from a terminal did a person type."""
    return len(BY_ITSELF.sub(b"", data))


class Typed:
    """Counts by lease; what could not be written yet is kept."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._lock = threading.Lock()
        self._counts: Counter[UUID] = Counter()

    def add(self, lease_id: UUID, data: bytes) -> None:
        if size := typed(data):
            self.count(lease_id, size)

    def count(self, lease_id: UUID, size: int) -> None:
        """So much was done in a way that is not seen byte by byte."""
        with self._lock:
            self._counts[lease_id] += size

    def flush(self) -> None:
        """Tell of every running lease: one in which nobody typed is quiet, not unknown."""
        with self._lock:
            taken, self._counts = self._counts, Counter()
        try:
            with self._sessions.begin() as session:
                running = session.execute(
                    sa.select(Lease.id).where(Lease.state == LeaseState.RUNNING)
                ).scalars()
                told = [Observation(one, SignalKind.TERMINAL, float(taken[one])) for one in running]
                signals.observe(session, told, now=now(session))
        except SQLAlchemyError as error:  # away, failing over, or without a connection to spare
            with self._lock:
                self._counts += taken
            log.warning("typing not written yet error=%s", str(error).splitlines()[0])

    def run(self, stop: threading.Event) -> None:
        """Flush every few seconds until `stop`, and once more then."""
        while not stop.wait(FLUSH_SECONDS):
            self.flush()
        self.flush()
