"""Following engines' events, so that a death is acted on at once; the periodic comparison is what makes it sure."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

from leasing.drivers.protocol import Lifecycle
from leasing.errors import DriverError

log = logging.getLogger(__name__)
REMEMBERED_SECONDS = 10.0
"""A container that ended is looked at so long: its row may say only after its death that it runs."""
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
        self._ended: dict[str, float] = {}
        self._thread = threading.Thread(target=self._run, name=f"events-{node_id}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Follow no longer; the stream itself ends when the engine is let go of."""
        self._stopping.set()

    def ended(self) -> frozenset[str]:
        """Ids of containers that ended lately by the engine's word; its listing may show them as running still."""
        since = time.monotonic() - REMEMBERED_SECONDS
        return frozenset(one for one, at in list(self._ended.items()) if at >= since)

    def _run(self) -> None:
        since = datetime.now(UTC) - OVERLAP
        while not self._stopping.is_set():
            try:
                for event in self._engine.events(self._installation, since=since):
                    since = event.at
                    if event.action != "start":
                        self._note(event.container_id)
                        self._changed()
            except DriverError as error:
                log.info("event stream lost error=%s", error)
            self._stopping.wait(PAUSE_SECONDS)
            self._changed()

    def _note(self, container_id: str) -> None:
        old = time.monotonic() - REMEMBERED_SECONDS
        for gone in [one for one, at in self._ended.items() if at < old]:
            del self._ended[gone]
        self._ended[container_id] = time.monotonic()
