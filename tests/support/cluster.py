"""A cluster in the database, with an engine in memory behind it: the scheduler's own code, without containers."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.database import Sessions, create_engine, now, sessions
from leasing.drivers.docker import DockerDriver
from leasing.drivers.fake import FakeDriver
from leasing.model import Device, DeviceUsage, Lease, Node, NodeUsage, TokenKind, User
from leasing.schema.lease import LeaseRequest
from leasing.service import cluster, installation, leases, people, requesting, suspension
from leasing.service.principal import Principal
from leasing.settings.docker import DockerSettings
from leasing.settings.limits import LimitSettings
from leasing.settings.scheduler import SchedulerSettings
from leasing.states import DeviceHealth, NodeHealth, Role
from scheduler import planning
from scheduler.fleet import Fleet
from scheduler.provision import Images
from scheduler.reconcile import runs
from scheduler.starting import Starter
from scheduler.stopping import Stopper
from scheduler.work import Workers
from tests.support.images import ensure_busybox

IMAGE = "leasing-test/image:1"
LIMITS = LimitSettings(devices_per_user=1000, leases_per_user=1000)


@dataclass
class Cluster:
    """One node, one engine in memory, one user; passes of the scheduler run when a test says so."""

    url: str
    sessions: Sessions
    driver: FakeDriver
    installation: str
    node_id: UUID
    ada: Principal
    settings: SchedulerSettings
    fleet: Fleet
    proves: bool = True
    """Whether a device is proven clean at once after a lease, as by a sampler that looks just before each plan."""

    @classmethod
    def make(cls, url: str, *, devices: int = 0, cpus: int = 64, memory: int = 2**38) -> Cluster:
        engine = create_engine(url, "leasing-test")
        made = sessions(engine)
        driver = FakeDriver()
        settings = SchedulerSettings(retry_seconds=0.01)
        with made.begin() as session:
            own = installation.get_or_create(session)
            node, _ = cluster.register_node(session, "local", driver="fake", address="")
            node.health = NodeHealth.READY
            session.execute(sa.update(NodeUsage).values(cpus_millis=cpus * 1000, memory_bytes=memory))
            moment = now(session)
            # as whoever probed it has noted it since yesterday
            node.engine, node.engine_since = {"epoch": driver.epoch()}, moment - timedelta(days=1)
            for index in range(devices):
                add_device(session, node.id, index, moment)
            ada = user(session, "ada")
        return cls(url, made, driver, own, node.id, ada, settings, Fleet(made, lambda *_: driver))

    @classmethod
    @contextmanager
    def opened(cls, url: str, **facts: int) -> Iterator[Cluster]:
        """One for the length of a block."""
        made = cls.make(url, **facts)
        try:
            yield made
        finally:
            made.fleet.close()
            made.sessions.kw["bind"].dispose()

    def ask(self, **wishes: object) -> Lease:
        """A lease is asked for, with sane and small wishes unless told otherwise."""
        facts: dict[str, object] = {"image": IMAGE, "cpus": "1", "memory": "64M"}
        with self.sessions.begin() as session:
            return requesting.request(
                session,
                LeaseRequest.model_validate(facts | wishes),
                principal=self.ada,
                limits=LIMITS,
                idempotency_key=None,
                now=now(session),
            )

    def plan(self) -> None:
        if self.proves:
            with self.sessions.begin() as session:
                session.execute(sa.update(Device).values(cleared_at=sa.func.clock_timestamp()))
        planning.run_once(self.sessions, self.settings)

    def workers(self, owner: str = "test") -> Workers:
        docker = DockerSettings()
        return Workers(
            self.sessions,
            Starter(self.sessions, self.fleet, Images(lambda _: None), self.settings, docker),
            Stopper(self.sessions, self.fleet, self.settings),
            installation=self.installation,
            owner=owner,
            settings=self.settings,
        )

    def work(self, workers: Workers | None = None) -> None:
        """Everything there is to start and stop, until nothing is left."""
        crew = workers or self.workers()
        deadline = time.monotonic() + 20
        while crew.busy or crew.dispatch():  # in this order: the last one at work may have left more to do
            assert time.monotonic() < deadline, "work did not end"
            time.sleep(0.005)
        if workers is None:
            crew.stop()

    def compare(self, ended: Collection[str] = ()) -> int:
        """Its runs with what its engine has of them; how many leases changed."""
        return runs.run_once(
            self.sessions, self.fleet, self.node_id, self.installation, ended,
            missing_seconds=self.settings.missing_seconds,
        )  # fmt: skip

    def run(self, **wishes: object) -> Lease:
        """A lease that runs."""
        lease = self.ask(**wishes)
        self.plan()
        self.work()
        found = self.lease(lease.id)
        assert found.state == "running", found.message
        return found

    def lease(self, lease_id: UUID) -> Lease:
        with self.sessions() as session:
            return session.get_one(Lease, lease_id)

    def work_through_every_try(self) -> None:
        """Of starts that fail, without the pauses in between."""
        for _ in range(self.settings.start_attempts):
            with self.sessions.begin() as session:
                session.execute(sa.update(Lease).values(retry_at=None))
            self.work()

    def change(self, lease_id: UUID, act: Callable[[Session, Lease, datetime], None]) -> None:
        with self.sessions.begin() as session:
            act(session, session.get_one(Lease, lease_id, with_for_update=True), now(session))

    def release(self, lease_id: UUID) -> None:
        self.change(
            lease_id,
            lambda session, lease, moment: leases.release(session, lease, principal=self.ada, now=moment),
        )

    def suspend(self, lease_id: UUID) -> None:
        self.change(
            lease_id,
            lambda session, lease, moment: suspension.suspend(session, lease, principal=self.ada, now=moment),
        )

    def resume(self, lease_id: UUID, limits: LimitSettings = LIMITS) -> None:
        self.change(
            lease_id,
            lambda session, lease, moment: suspension.resume(
                session, lease, principal=self.ada, limits=limits, now=moment
            ),
        )

    def container(self, lease_id: UUID, generation: int = 1) -> str:
        return f"leasing-{self.installation}-{lease_id.hex[:12]}-{generation}"


@contextmanager
def on_docker(url: str, settings: SchedulerSettings | None = None, **facts: int) -> Iterator[Cluster]:
    """One with the machine's own engine behind it, on which nothing of it is left afterwards."""
    ensure_busybox()
    driver = DockerDriver("", DockerSettings())
    with Cluster.opened(url, **facts) as made:
        try:
            yield replace(
                made,
                fleet=Fleet(made.sessions, lambda *_: driver),
                settings=settings or made.settings,
            )
        finally:
            for container in driver.containers(made.installation):
                driver.remove(container.id, network=None)
            for network in driver.networks(made.installation):
                driver.remove_network(network)
            for image in driver.images():
                if image.kept_by(made.installation):
                    driver.remove_image(image.id)
            driver.close()


def user(session: Session, name: str, role: Role = Role.DEVELOPER) -> Principal:
    row = User(name=name, role=role)
    session.add(row)
    session.flush()
    token, _ = people.issue(session, row.id, TokenKind.API, "test", expires_at=None)
    return Principal(row.id, name, role, token.id)


def add_device(
    session: Session, node_id: UUID, index: int, moment: datetime, model: str = "NVIDIA A100-SXM4-40GB"
) -> Device:
    device = Device(
        node_id=node_id, uuid=f"GPU-{node_id.hex[:4]}-{index}", index=index, model=model, memory_bytes=40 * 2**30,
        health=DeviceHealth.OK, foreign_processes=[], sampled_at=moment,
    )  # fmt: skip
    session.add(device)
    session.flush()
    session.add(DeviceUsage(device_id=device.id, share=1000, memory_bytes=device.memory_bytes))
    session.flush()
    return device


def node_of(session: Session) -> Node:
    return session.execute(sa.select(Node)).scalar_one()
