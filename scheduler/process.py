"""The scheduler's process: every loop on one screen, woken by notifications, backed up by intervals."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import sqlalchemy as sa
from apscheduler.schedulers.background import BackgroundScheduler

from leasing.database import EVENTS, Listener, Sessions, create_engine, now, sessions
from leasing.drivers.protocol import Engine, Lifecycle
from leasing.errors import DriverError
from leasing.model import IdempotencyKey
from leasing.service import activity, installation, parts, people
from leasing.service.contacts import HINTS as CONTACTS
from leasing.service.notices import HINTS as NOTICES
from leasing.service.notices import prune as prune_notices
from leasing.settings.device_memory import DeviceMemorySettings
from leasing.settings.docker import DockerSettings
from leasing.settings.idle import IdleSettings
from leasing.settings.notify import NotifySettings
from leasing.settings.scheduler import SchedulerSettings
from leasing.settings.usage import UsageSettings
from leasing.settings.warm import WarmSettings
from scheduler import planning
from scheduler.clock import Clock
from scheduler.delivery.postman import Keys, Postman
from scheduler.fleet import Connect, Fleet
from scheduler.provision import Images, Logins
from scheduler.reclaim import Reclaimer
from scheduler.reconcile import (
    bookings,
    drains,
    flattening,
    found,
    images,
    kept,
    memory,
    nodes,
    notices,
    runs,
    tools,
    usage,
)
from scheduler.reconcile.devices import LostDevices
from scheduler.reconcile.follow import Follower
from scheduler.reconcile.foreseen import Foreseen
from scheduler.reconcile.keeps import Keeps
from scheduler.reconcile.orphans import Orphans
from scheduler.reconcile.outbox import Outbox
from scheduler.reconcile.verdicts import Verdicts
from scheduler.reconcile.warm import Keeper
from scheduler.reconcile.windows import Windows
from scheduler.reconcile.workspaces import Workspaces
from scheduler.runner import Group, Loop
from scheduler.starting import Starter
from scheduler.stopping import Stopper
from scheduler.work import Task, Workers

log = logging.getLogger(__name__)
ROLE = "scheduler"
STOP_SECONDS = 5.0
PLAN_REST_SECONDS = 0.02
"""Between two plans: requests that come together are planned together, in one commit."""
WORK_REST_SECONDS = 0.02
"""Between two looks for work: leases released together are taken up together."""
FOLLOW_REST_SECONDS = 0.1
"""Between two comparisons with an engine, and between two rounds of notices: nobody waits for them."""


WARM_REST_SECONDS = 1.0
"""Between two rounds of refilling what is kept ready: whoever starts comes first."""


class Scheduler:
    """All of it, in one process. Any number of such processes may run beside each other."""

    def __init__(
        self,
        url: str,
        *,
        connect: Connect,
        logins: Logins,
        settings: SchedulerSettings,
        docker: DockerSettings,
        guard: Callable[[], None] = lambda: None,
        pages: str = "",
        keys: Keys | None = None,
    ) -> None:
        """`connect` opens engines, `logins` knows registries, `guard` keeps the machine's firewall in place.

        `pages` is where people reach them; without `keys` nobody is warned by mail, webhook or chat.
        """
        told_how = NotifySettings()
        self._settings = settings
        self._engine = create_engine(url, "leasing-scheduler", pool_size=settings.workers)
        self._sessions: Sessions = sessions(self._engine)
        with self._sessions.begin() as session:
            self._installation = installation.get_or_create(session)
            self._part = parts.join(session, ROLE)
        self._fleet = Fleet(self._sessions, connect)
        images_of = Images(logins)
        kept_ready = WarmSettings()
        self._keeper = Keeper(
            self._sessions, images_of, self._installation, self._part, kept_ready, settings, docker,
            Foreseen(kept_ready),
        )  # fmt: skip
        self._workers = Workers(
            self._sessions,
            Starter(self._sessions, self._fleet, images_of, settings, docker),
            Stopper(self._sessions, self._fleet, settings),
            installation=self._installation,
            owner=f"{socket.gethostname()}:{os.getpid()}",
            settings=settings,
        )
        self._windows = Windows(self._sessions)
        self._clock = Clock(self._sessions)
        self._reclaimer = Reclaimer(self._sessions, self._clock, settings, told_how)
        postman = Postman(self._sessions, self._fleet, self._installation, told_how, url=pages, keys=keys)
        self._outbox = Outbox(self._sessions, postman, told_how)
        self._keeps = Keeps(self._sessions, self._fleet, self._installation)
        self._orphans = Orphans(
            self._sessions, self._installation, settings.orphan_grace_seconds, settings.lost_keep_days
        )
        self._lost_devices = LostDevices(
            self._sessions, self._fleet, self._installation, grace_seconds=settings.device_lost_seconds
        )
        self._workspaces = Workspaces(
            self._sessions,
            self._installation,
            measure_seconds=settings.workspace_measure_seconds,
            missing_seconds=settings.missing_seconds,
        )
        self._memory = DeviceMemorySettings()
        self._counted = UsageSettings()
        self._guard = guard
        self._answered: dict[UUID, Engine] = {}
        self._followers: dict[UUID, Follower] = {}
        self._listener = Listener(url, EVENTS, "leasing-scheduler-listen")

        beat, keep = parts.BEAT_SECONDS, settings.claim_seconds / 3
        self._plan = Loop("plan", self._plan_once, interval=settings.plan_seconds, rest=PLAN_REST_SECONDS)
        self._work = Loop(
            "work", self._workers.dispatch, interval=settings.work_seconds, rest=WORK_REST_SECONDS
        )
        self._judge = Loop("verdicts", Verdicts(self._sessions).run_once, interval=settings.reclaim_seconds)
        self._reclaim = Loop("reclaim", self._reclaimer.run_once, interval=settings.reclaim_seconds)
        self._compare = Loop(
            "compare", self._compare_once, interval=settings.reconcile_seconds, rest=FOLLOW_REST_SECONDS
        )
        self._notices = Loop(
            "notices", self._tell, interval=settings.reconcile_seconds, rest=FOLLOW_REST_SECONDS
        )
        self._warm = Loop(
            "warm", self._keep_ready, interval=settings.reconcile_seconds, rest=WARM_REST_SECONDS
        )
        self._post = Loop("outbox", self._outbox.run_once, interval=settings.reconcile_seconds)
        self._loops = Group(
            [
                self._plan,
                self._work,
                self._judge,
                self._reclaim,
                self._compare,
                self._notices,
                self._warm,
                self._post,
                Loop("keeps", self._keeps.run_once, interval=settings.reconcile_seconds),
                Loop("usage", self._count_usage, interval=settings.reconcile_seconds),
                Loop("memory", self._watch_memory, interval=settings.reclaim_seconds),
                Loop("devices", self._look_at_devices, interval=settings.reconcile_seconds),
                Loop("nodes", self._probe, interval=settings.reconcile_seconds),
                Loop("workspaces", self._keep_workspaces, interval=settings.workspaces_seconds),
                Loop("bookings", self._keep_calendar, interval=settings.reconcile_seconds),
                Loop("drains", self._drain, interval=settings.reconcile_seconds),
                Loop("orphans", self._sweep, interval=settings.reconcile_seconds),
                Loop("flattening", self._flatten, interval=settings.reconcile_seconds),
                Loop("claims", self._workers.keep, interval=keep),
                Loop("heartbeat", self._beat, interval=beat),
            ]
        )
        self._workers.idle = self._worked
        self._rare = BackgroundScheduler(job_defaults={"max_instances": 1, "coalesce": True}, timezone="UTC")
        self._rare.add_job(self._guard, "interval", seconds=60, jitter=5, name="firewall")
        self._rare.add_job(self._prune, "interval", minutes=10, jitter=60, name="prune")
        self._rare.add_job(self._windows.run_once, "interval", minutes=5, jitter=30, name="windows")
        self._rare.add_job(self._make_room, "interval", minutes=5, jitter=30, name="images")
        self._rare.add_job(self._bring_tools, "interval", minutes=1, jitter=5, name="tools")

    def run(self, stop: threading.Event) -> None:
        """Run until `stop`, or until a loop has died: then raise, so that the process is started anew."""
        self._loops.start()
        self._rare.start()
        listening = threading.Thread(target=self._listen, name="listen", daemon=True)
        listening.start()
        log.info("scheduler runs installation=%s", self._installation)
        try:
            while not stop.wait(1.0):
                if dead := self._loops.dead():
                    raise RuntimeError(f"loops died: {', '.join(dead)}")
        finally:
            self._close()

    def _close(self) -> None:
        self._listener.stop()
        self._rare.shutdown(wait=False)
        self._workers.stop()
        for follower in self._followers.values():
            follower.stop()
        self._loops.stop(seconds=STOP_SECONDS)
        self._keeps.close()
        self._fleet.close()
        try:
            with self._sessions.begin() as session:
                parts.leave(session, self._part)
        except sa.exc.OperationalError:
            log.info("the database was gone before the scheduler")
        self._engine.dispose()

    def _listen(self) -> None:
        """An event is a hint to whoever may have something to do because of it; a fresh connection is one to all."""
        for payload in self._listener.payloads():
            if not payload:
                self._loops.wake()  # those, too, that have failed ever more seldom while the database was away
                continue
            kind = payload.partition(":")[2]
            if kind in (
                "lease.queued",
                "lease.ended",
                "lease.suspended",
                "node.ready",
                "node.open",
                "device.open",
                "device.clean",
                "device.cleared",
                "lease.conflict",
            ) or kind.startswith("reservation."):
                self._plan.wake()
            if kind in ("lease.placed", "lease.starting", "lease.stopping"):
                self._work.wake()
            if kind == "warm.changed":
                self._warm.wake()
            if kind == "lease.renewed":
                self._notices.wake()
            if kind in ("", NOTICES, CONTACTS):
                self._post.wake()

    def _worked(self) -> None:
        """A worker is free. What follows a start waits until none is under way: it would only slow them down."""
        if self._workers.more:
            self._work.wake()
        if not self._workers.busy:
            self._warm.wake()
            self._notices.wake()
            self._compare.wake()  # a container may have ended before its row said that it runs

    def _plan_once(self) -> None:
        taken: list[Task] = []
        planning.run_once(
            self._sessions, self._settings, placed=lambda session: taken.extend(self._workers.claim(session))
        )
        self._workers.hand_out(taken)

    def _probe(self) -> None:
        self._answered = nodes.run_once(self._sessions, self._fleet)
        for node_id in self._answered:
            if node_id not in self._followers:
                follower = Follower(
                    self._fleet.engine(node_id), node_id, self._installation, self._compare.wake
                )
                self._followers[node_id] = follower
                follower.start()

    def _compare_once(self) -> None:
        for node_id, follower in list(self._followers.items()):
            if node_id not in self._answered:
                continue
            try:
                runs.run_once(
                    self._sessions,
                    self._fleet,
                    node_id,
                    self._installation,
                    follower.ended(),
                    missing_seconds=self._settings.missing_seconds,
                )
            except DriverError as error:
                log.warning("not compared node=%s error=%s", node_id, error)

    def _on_each(self, failed: str, act: Callable[[Lifecycle, UUID, Engine], object]) -> None:
        """On each node that answered; one that fails now keeps no other waiting, and has its turn in the next pass."""
        for node_id, facts in list(self._answered.items()):
            try:
                act(self._fleet.engine(node_id), node_id, facts)
            except DriverError as error:
                log.warning("%s node=%s error=%s", failed, node_id, error)

    def _keep_ready(self) -> None:
        self._on_each("nothing kept ready", self._keeper.run_once)

    def _sweep(self) -> None:
        keep, grace = self._settings.lost_keep_days, self._settings.stop_grace_seconds

        def sweep(engine: Lifecycle, node_id: UUID, _facts: Engine) -> None:
            where = self._sessions, engine, node_id, self._installation
            found.run_once(*where, keep_days=keep, grace_seconds=grace)
            kept.run_once(*where, lost_keep_days=keep)
            self._orphans.run_once(engine, node_id)

        self._on_each("not swept", sweep)

    def _keep_workspaces(self) -> None:
        self._on_each(
            "workspaces not seen to", lambda engine, node_id, _: self._workspaces.run_once(engine, node_id)
        )

    def _tell(self) -> None:
        notices.run_once(self._sessions, self._fleet, self._installation)

    def _keep_calendar(self) -> None:
        bookings.run_once(self._sessions, self._settings)

    def _look_at_devices(self) -> None:
        self._lost_devices.run_once(set(self._answered))

    def _count_usage(self) -> None:
        usage.run_once(self._sessions, self._clock)

    def _watch_memory(self) -> None:
        memory.run_once(self._sessions, self._memory)

    def _flatten(self) -> None:
        self._on_each(
            "kept files not looked at",
            lambda engine, node_id, facts: flattening.run_once(
                self._sessions, engine, facts, node_id, self._installation, self._settings
            ),
        )

    def _drain(self) -> None:
        drains.run_once(self._sessions)

    def _beat(self) -> None:
        with self._sessions.begin() as session:
            parts.join(session, ROLE, self._part)

    def _make_room(self) -> None:
        self._on_each(
            "no room made",
            lambda engine, node_id, facts: images.run_once(
                self._sessions, engine, facts, node_id, self._settings
            ),
        )

    def _bring_tools(self) -> None:
        self._on_each("no tools brought", lambda engine, node_id, _: tools.run_once(engine, node_id))

    def _prune(self) -> None:
        with self._sessions.begin() as session:
            moment = now(session)
            parts.prune(session, now=moment)
            people.prune(session, now=moment)
            usage.prune(session, self._counted, now=moment)
            record = timedelta(days=IdleSettings().record_days)
            activity.prune(session, keep=record, now=moment)
            prune_notices(session, keep=record, now=moment)
            session.execute(
                sa.delete(IdempotencyKey).where(IdempotencyKey.created_at < moment - timedelta(days=1))
            )
