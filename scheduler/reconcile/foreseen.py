"""What will probably be asked for soon of what a waiting container could serve; see `scheduler.policy.demand`."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from images.catalogue import load
from leasing.database import now
from leasing.settings.warm import WarmSettings
from leasing.states import WarmRole
from scheduler.policy.demand import Asked, expected
from scheduler.reconcile.wanted import Wanted

PAST = timedelta(days=28)
FRESH_SECONDS = 600.0
"""So long what was foreseen is not foreseen anew: it reads a month of requests."""

ASKED = sa.text("""
    SELECT created_at, image, cpus_millis, memory_bytes FROM lease
    WHERE created_at > :since AND gpu_count = 0 AND workspace_id IS NULL AND shm_bytes IS NULL AND env = '{}'
        AND image = ANY (CAST(:environments AS text[]))
""")


@dataclass
class Foreseen:
    """Foresees when it is due, and remembers it in between."""

    settings: WarmSettings
    _found: list[Wanted] = field(default_factory=list)
    _at: float | None = None

    def wanted(self, session: Session) -> list[Wanted]:
        """Of each kind as many as will probably be asked for in the time in which a node's starts are counted; the
        most wanted first, and not more of all kinds together than is set. Nothing while it is off."""
        if not self.settings.forecast:
            return []
        if self._at is None or time.monotonic() - self._at > FRESH_SECONDS:
            self._found, self._at = self._foresee(session), time.monotonic()
        return self._found

    def _foresee(self, session: Session) -> list[Wanted]:
        moment = now(session)
        values = {"since": moment - PAST, "environments": list(load())}
        kinds: dict[str, tuple[str, int, int]] = {}
        asked = []
        for at, image, cpus_millis, memory_bytes in session.execute(ASKED, values):
            key = f"{image} {cpus_millis} {memory_bytes}"
            kinds[key] = (image, cpus_millis, memory_bytes)
            asked.append(Asked(at, key, 0.0))
        left, found = self.settings.forecast_most, []
        part = self.settings.demand_seconds / 3600
        for one in sorted(expected(asked, moment, hours=1), key=lambda one: (-one.requests, one.environment)):
            count = min(left, math.ceil(one.requests * part)) if one.requests * part >= 0.5 else 0
            if count:
                image, cpus_millis, memory_bytes = kinds[one.environment]
                found.append(Wanted(WarmRole.WARM, count, image, cpus_millis, memory_bytes))
                left -= count
        return found
