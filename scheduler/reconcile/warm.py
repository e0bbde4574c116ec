"""Stage: what is kept ready on a node is made, and what has served, or is not wanted any more, goes.

Rows say whose everything is: a start takes a row that is ready, in the transaction of its placement, and only rows that
are ready or in the making are ever called spent. So whatever dies in between, nothing is given to two, and nothing that
a run has is removed here.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa

from images import tools
from images.catalogue import resolve
from leasing import names
from leasing.database import Sessions, now
from leasing.drivers import spec
from leasing.drivers.protocol import LABEL_INSTALLATION, LABEL_ROLE, Container, Engine, Lifecycle
from leasing.drivers.spec import SANDBOX, WarmFacts
from leasing.errors import DriverError, EngineDown, HostError
from leasing.model import Warm
from leasing.service import parts
from leasing.settings.docker import DockerSettings
from leasing.settings.scheduler import SchedulerSettings
from leasing.settings.warm import WarmSettings
from leasing.states import WarmRole, WarmState
from scheduler.provision import Images
from scheduler.reconcile.foreseen import Foreseen
from scheduler.reconcile.wanted import Wanted, merged, wanted

log = logging.getLogger(__name__)
PRESENT = (WarmState.MAKING, WarmState.READY)

BUSY = sa.text("SELECT EXISTS (SELECT FROM lease WHERE state IN ('placed', 'starting'))")
OVER = sa.text("""
    SELECT id FROM warm WHERE node_id = :node AND (
        state = 'spent'
        OR state = 'taken' AND NOT EXISTS (SELECT FROM run WHERE run.warm_id = warm.id AND run.released_at IS NULL)
    )
""")
SPEND = sa.text("""
    UPDATE warm SET state = 'spent' WHERE id = ANY (CAST(:ids AS uuid[])) AND state IN ('making', 'ready')
""")
TURN = sa.text("SELECT pg_advisory_xact_lock(hashtextextended('leasing-warm-' || CAST(:node AS text), 0))")
MAKE = sa.text("""
    INSERT INTO warm (node_id, role, image, cpus_millis, memory_bytes, device_id, epoch, maker_id)
    SELECT :node, :role, :image, :cpus_millis, :memory_bytes, :device, :epoch, :maker
    WHERE :count > (
        SELECT count(*) FROM warm
        WHERE node_id = :node AND role = :role AND state IN ('making', 'ready') AND image IS NOT DISTINCT FROM :image
            AND cpus_millis = :cpus_millis AND memory_bytes = :memory_bytes AND (device_id IS NOT NULL) = :bound
    ) AND NOT EXISTS (SELECT FROM warm WHERE device_id = :device AND state IN ('making', 'ready'))
    AND NOT EXISTS (SELECT FROM allocation WHERE device_id = :device AND released_at IS NULL)
    RETURNING id
""")
READY = sa.text("""
    UPDATE warm SET state = 'ready', ready_at = now(), container_id = :container, image_id = :image, address = :address
    WHERE id = :id AND state = 'making' RETURNING id
""")


@dataclass(frozen=True)
class Keeper:
    """Keeps one node's pools at a call; one call at a time."""

    sessions: Sessions
    images: Images
    installation: str
    part: UUID
    """The scheduler that this belongs to, by its heartbeat."""
    settings: WarmSettings
    scheduler: SchedulerSettings
    docker: DockerSettings
    foreseen: Foreseen

    def run_once(self, engine: Lifecycle, node_id: UUID, facts: Engine) -> int:
        """How many were made. Raises `EngineDown`.

        None is made while anybody waits for a start: refilling would only slow that down. What is left to make is made
        when the next pass finds nobody waiting.
        """
        wishes = self._wanted(node_id, facts)
        self._retire(engine, node_id, wishes)
        self._remove(engine, node_id)
        made = 0
        for wish in wishes:
            made += self._fill(engine, node_id, wish)
        return made

    def _wanted(self, node_id: UUID, facts: Engine) -> list[Wanted]:
        low = (
            facts.disk_free_bytes is not None
            and facts.disk_free_bytes < 2 * self.scheduler.disk_reserve_bytes
        )
        with self.sessions() as session:
            found = wanted(session, node_id, self.settings, sandboxes=facts.sandboxes, low=low)
            return merged(found, self.foreseen.wanted(session)) if found else found

    def _retire(self, engine: Lifecycle, node_id: UUID, wishes: Sequence[Wanted]) -> None:
        """What is not as it should be, is too old, or is more than is wanted, is spent."""
        with self.sessions() as session:
            moment = now(session)
            # what this scheduler was making it has given up, or another pass would not begin
            makers = parts.living(session) - {self.part}
            # before the engine is asked: whatever is ready by now runs there by now
            rows = list(
                session.execute(
                    sa.select(Warm)
                    .where(Warm.node_id == node_id, Warm.state.in_(PRESENT))
                    .order_by(Warm.created_at)
                ).scalars()
            )
        if not rows:
            return
        running = {one.id for one in engine.containers(self.installation) if one.state == "running"}
        epoch = engine.epoch()
        present = {wish.image: self._image(engine, wish) for wish in wishes if wish.image is not None}
        left = {wish.key: wish.count for wish in wishes}
        spent = []
        for row in rows:
            key = (row.role, row.image, row.cpus_millis, row.memory_bytes, row.device_id is not None)
            if self._unfit(row, moment, makers, epoch, running, present) or left.get(key, 0) <= 0:
                spent.append(row.id)
            else:
                left[key] -= 1
        if spent:
            with self.sessions.begin() as session:
                session.execute(SPEND, {"ids": spent})

    def _unfit(
        self,
        row: Warm,
        moment: datetime,
        makers: set[UUID],
        epoch: str | None,
        running: set[str],
        present: dict[str, str | None],
    ) -> bool:
        if row.epoch != epoch:
            return True
        if row.state == WarmState.MAKING:
            return row.maker_id not in makers
        if row.container_id not in running:
            return True
        if row.role == WarmRole.SANDBOX:
            return False
        old = row.created_at < moment - timedelta(hours=self.settings.max_age_hours)
        return old or row.image_id != present.get(row.image or "")

    def _image(self, engine: Lifecycle, wish: Wanted) -> str | None:
        found = engine.find_image(resolve(wish.image or "").reference)
        return found.id if found is not None else None

    def _remove(self, engine: Lifecycle, node_id: UUID) -> None:
        with self.sessions() as session:
            over = list(session.execute(OVER, {"node": node_id}).scalars())
        for warm_id in over:
            name = names.warm(self.installation, warm_id)
            try:
                engine.remove(name, network=name)
            except EngineDown:
                raise
            except DriverError as error:
                log.warning("what was ready resists name=%s error=%s", name, error)
                continue
            with self.sessions.begin() as session:
                session.execute(sa.delete(Warm).where(Warm.id == warm_id))

    def _fill(self, engine: Lifecycle, node_id: UUID, wish: Wanted) -> int:
        made = 0
        while made < wish.count:
            device = wish.devices[made] if made < len(wish.devices) else None
            if wish.bound and device is None:
                return made
            epoch = engine.epoch()
            with self.sessions.begin() as session:
                if session.execute(BUSY).scalar_one():
                    return made
                session.execute(TURN, {"node": node_id})
                warm_id = session.execute(
                    MAKE,
                    {
                        "node": node_id, "role": wish.role.value, "image": wish.image, "count": wish.count,
                        "cpus_millis": wish.cpus_millis, "memory_bytes": wish.memory_bytes, "epoch": epoch,
                        "maker": self.part,
                        "device": device.id if device else None, "bound": wish.bound,
                    },
                ).scalar_one_or_none()  # fmt: skip
            if warm_id is None or not self._make(engine, warm_id, wish, [device.uuid] if device else []):
                return made
            made += 1
        return made

    def _make(self, engine: Lifecycle, warm_id: UUID, wish: Wanted, devices: list[str]) -> bool:
        """Whether it is ready. One that could not be made is spent, and tried again by the next pass."""
        try:
            container, image_id = (
                (self._sandbox(engine, warm_id), None)
                if wish.role is WarmRole.SANDBOX
                else self._waiting(engine, warm_id, wish, devices)
            )
        except EngineDown:
            raise
        except (DriverError, HostError) as error:
            log.warning("not made ready role=%s image=%s error=%s", wish.role, wish.image, error)
            with self.sessions.begin() as session:
                session.execute(SPEND, {"ids": [warm_id]})
            return False
        values = {"id": warm_id, "container": container.id, "image": image_id, "address": container.address}
        with self.sessions.begin() as session:
            kept = session.execute(READY, values).scalar_one_or_none() is not None
        if not kept:  # somebody needed its device meanwhile
            engine.remove(container.id, network=names.warm(self.installation, warm_id))
        return kept

    def _sandbox(self, engine: Lifecycle, warm_id: UUID) -> Container:
        labels = {LABEL_INSTALLATION: self.installation, LABEL_ROLE: SANDBOX}
        return engine.sandbox(names.warm(self.installation, warm_id), names.bridge(warm_id), labels)

    def _waiting(
        self, engine: Lifecycle, warm_id: UUID, wish: Wanted, devices: list[str]
    ) -> tuple[Container, str]:
        made = self.images.ensure(engine, wish.image or "", lambda _: None)
        facts = WarmFacts(
            warm_id=warm_id, installation=self.installation, image=made.reference, cpus=wish.cpus_millis / 1000,
            memory_bytes=wish.memory_bytes, device_uuids=devices, tools=tools.reference(),
        )  # fmt: skip
        created = engine.create(spec.waiting(facts, made.image, self.docker))
        return engine.start(created.id), made.image.id
