"""Looking: pictures are taken and judged, what is wrong is told once, with what led to it."""

from __future__ import annotations

import re
import time
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg

from leasing.database import EVENTS
from leasing.states import LeaseState
from tests.chaos.always import ALWAYS, containers_fit_their_devices, networks_are_not_shared
from tests.chaos.at_rest import AT_REST
from tests.chaos.deeds import Ledger
from tests.chaos.markers import Markers, Visitor
from tests.chaos.picture import Camera, Picture, Row
from tests.chaos.world import World

TWICE = frozenset({containers_fit_their_devices, networks_are_not_shared})
"""Rows and engines are not seen at the same moment: what these say counts if a second look says it too."""
IDLE_SECONDS = 3.0
"""A call to what does not answer lasts longer than this; a process that gets no turn on a busy machine does not."""
LAST_ACTIONS = 50
NUMBERS = re.compile(r"\bc-\d+\b|[0-9a-f]{8}-[0-9a-f-]{27}|\b[0-9a-f]{8,64}\b|\d+")


def alike(said: str) -> str:
    """Without what differs from one lease to the next."""
    return NUMBERS.sub("#", said)[:110]


@dataclass
class Violation:
    step: int
    what: str
    actions: list[str]


def promises_are_kept(picture: Picture, ledger: Ledger, sealed: Collection[UUID]) -> Iterator[str]:
    """An answer is kept: a lease that was given is there, one that was released has ended."""
    for lease_id, (who, name) in ledger.made.items():
        if lease_id not in picture.leases and lease_id not in sealed:
            yield f"lease {name} ({lease_id.hex[:12]}) of {who} was promised and is not there"
    for lease_id in ledger.released:
        lease = picture.leases.get(lease_id)
        if lease is not None and lease["state"] != LeaseState.ENDED:
            yield f"lease {lease['name']} ({lease_id.hex[:12]}) was released and is {lease['state']}"


class Resting:
    """9: connections that rest in a transaction, by our own clock, for the database's is moved."""

    def __init__(self) -> None:
        self._since: dict[tuple[int, str], float] = {}

    def wrong(self, sessions: Iterable[Row], clock: float, frozen: Iterable[str] = ()) -> Iterator[str]:
        """Those that have rested too long. A process that we froze rests wherever it was."""
        now = {(row["pid"], row["since"]): row for row in sessions}
        self._since = {key: since for key, since in self._since.items() if key in now}
        excused = tuple(f"leasing-{part.partition('-')[0]}" for part in frozen)
        for key, row in now.items():
            if row["application_name"].startswith(excused):
                self._since.pop(key, None)
            elif clock - self._since.setdefault(key, clock) > IDLE_SECONDS:
                query = " ".join(row["query"].split())[:120]
                yield f"{row['application_name']} rests in a transaction after: {query}"


@dataclass
class Watch:
    """Judges a world. `violations` grow; everything else is for the report."""

    world: World
    ledger: Ledger
    camera: Camera
    visitor: Visitor
    markers: Markers
    violations: list[Violation] = field(default_factory=list)
    actions: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_ACTIONS))
    step: int = 0
    looks: int = 0
    blind: int = 0
    """Looks at which the database was away."""
    waited: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """What was not yet in order after everything was mended -> for how long, seconds in all."""
    _told: set[str] = field(default_factory=set)
    _resting: Resting = field(default_factory=Resting)
    _listening: psycopg.Connection[dict[str, Any]] | None = None

    @classmethod
    def over(cls, world: World, ledger: Ledger) -> Watch:
        visitor = Visitor(world)
        return cls(world, ledger, Camera(world), visitor, Markers(visitor))

    def close(self) -> None:
        self.camera.close()
        self.visitor.close()
        if self._listening is not None:
            self._listening.close()

    def did(self, what: str) -> None:
        self.actions.append(f"{self.step}: {what}")

    def look(self) -> None:
        """Everything that holds at any moment."""
        self.looks += 1
        picture = self.camera.take()
        if picture is None:
            self.blind += 1
            return
        again: Picture | None = None
        for invariant in ALWAYS:
            found = list(invariant(picture))
            if found and invariant in TWICE:
                again = again or self.camera.take()
                found = [one for one in invariant(again) if one in found] if again is not None else []
            self.tell(found)
        self.tell(self._resting.wrong(picture.sessions, time.monotonic(), self.world.frozen))
        self.tell(self.ledger.wrong)

    def converge(self, seconds: float) -> float:
        """How long it took until everything held that holds at rest. What still does not is told."""
        began = looked = time.monotonic()
        while True:
            self.world.supervise()
            wrong = list(self._wrong_at_rest())
            looked, before = time.monotonic(), looked
            took = looked - began
            for what in {alike(one) for one in wrong}:
                self.waited[what] += looked - before
            if not wrong or took > seconds:
                self.tell(f"not within {seconds:.0f} s: {one}" for one in wrong)
                return took
            self._await_event(0.1)

    def _wrong_at_rest(self) -> Iterator[str]:
        picture = self.camera.take()
        if picture is None:
            yield "the database does not answer"
            return
        found = [said for invariant in AT_REST for said in invariant(picture)]
        found += promises_are_kept(picture, self.ledger, self.camera.sealed)
        if found:
            yield from found
            return
        if not self.world.up():
            yield "the api is not ready"
            return
        for place in self.world.places.values():
            for name in place.missing():
                yield f"{name} of another installation is gone from {place.name}"
        found = list(self.markers.wrong(picture))
        yield from found
        if not found:
            self._seal(picture)

    def _seal(self, picture: Picture) -> None:
        """What has ended and is in order is not looked at again; its workspace is, by others that have it."""
        for lease in picture["lease"]:
            if lease["state"] == LeaseState.ENDED:
                self.camera.sealed.add(lease["id"])

    def _await_event(self, seconds: float) -> None:
        """Until the platform says that something happened, and so long at most."""
        try:
            if self._listening is None or self._listening.closed:
                self._listening = self.world.connect()
                self._listening.execute(f'LISTEN "{EVENTS}"'.encode())
            next(self._listening.notifies(timeout=seconds, stop_after=1), None)
        except psycopg.OperationalError:
            with suppress(psycopg.Error):
                if self._listening is not None:
                    self._listening.close()
            self._listening = None
            time.sleep(seconds)  # there is nobody to wake us

    def tell(self, found: Iterable[str]) -> None:
        """Each wrong once, with what led to it."""
        for what in found:
            if what not in self._told:
                self._told.add(what)
                self.violations.append(Violation(self.step, what, list(self.actions)))
