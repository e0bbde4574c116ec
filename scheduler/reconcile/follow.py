"""Following engines' events, so that a death is acted on at once; the periodic comparison is what makes it sure."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

from leasing.drivers.protocol import Lifecycle
from leasing.errors import DriverError

log = logging.getLogger(__name__)
OVERLAP = timedelta(seconds=2)
PAUSE_SECONDS = 1.0


class Follower:
    """One thread a node; `changed` is called when a container ended, and when a lost stream is back."""

    def __init__(
        self, engine: Lifecycle, node_id: UUID, installation: str, changed: Callable[[], None]
    ) -> None:
        self._engine = engine
        self._installation = installation
        self._changed = changed
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"events-{node_id}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Follow no longer; the stream itself ends when the engine is let go of."""
        self._stopping.set()

    def _run(self) -> None:
        since = datetime.now(UTC) - OVERLAP
        while not self._stopping.is_set():
            try:
                for event in self._engine.events(self._installation, since=since):
                    since = event.at
                    if event.action != "start":
                        self._changed()
            except DriverError as error:
                log.info("event stream lost error=%s", error)
            self._stopping.wait(PAUSE_SECONDS)
            self._changed()
