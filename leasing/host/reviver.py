"""Starting a database of ours again when it died, for as long as it takes: its disk may be full just now."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import psycopg

from leasing.errors import HostError
from leasing.host.postgres import Postgres

log = logging.getLogger(__name__)
LONGEST_PAUSE = 10.0


class Reviver:
    """Call `tick` again and again from the thread that started the database."""

    def __init__(self, database: Postgres, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._tries = 0
        self._next = 0.0

    def tick(self) -> None:
        """Start it if it died and is due. What stands in the way ends nothing: leases run on without a database."""
        if self._database.poll() is None or self._clock() < self._next:
            return
        log.warning("the database died and is started again")
        try:
            self._database.start()
        except (HostError, OSError, psycopg.OperationalError) as error:
            self._tries += 1
            pause = min(LONGEST_PAUSE, 0.25 * 2.0**self._tries)
            self._next = self._clock() + pause
            log.warning("the database does not start, next try in=%.1fs error=%s", pause, error)
        else:
            self._tries = 0
