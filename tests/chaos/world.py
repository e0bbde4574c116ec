"""Everything that chaos happens to: a database, two engines, the platform's parts, people."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import httpx
import psycopg

from leasing.database import create_engine, driver_url, plain_url, sessions
from leasing.drivers.docker import DockerDriver
from leasing.errors import HostError
from leasing.host.postgres import OwnPostgres
from leasing.migrating import migrate
from leasing.model import Policy, TokenKind
from leasing.secrets import key
from leasing.service import cluster, installation, people
from leasing.settings.core import CoreSettings
from leasing.states import Role
from tests.chaos.clock import Clock, put_under
from tests.chaos.decoys import Decoys
from tests.chaos.disk import SmallDisk
from tests.chaos.nursery import POOLS, Nursery, Part
from tests.support.cluster import user
from tests.support.engines import SecondEngine
from tests.support.nvml import FakeDevice, FakeNvml
from tests.support.stack import free_port, until

NODES = ("one", "two")
PEOPLE = ("ada", "bob", "eve")
DEVICES = 3
DISK_MEGABYTES = 400
# Nothing is lost when the machine lives on, which it does: what was written is in the kernel's hands.
POSTGRES = {
    "fsync": "off", "full_page_writes": "off", "max_wal_size": "64MB", "wal_recycle": "off", "max_connections": "150",
}  # fmt: skip
QUICK = {
    "LEASING_SCHEDULER_PLAN_SECONDS": "1",
    "LEASING_SCHEDULER_WORK_SECONDS": "0.5",
    "LEASING_SCHEDULER_RECLAIM_SECONDS": "1",
    "LEASING_SCHEDULER_RECONCILE_SECONDS": "1",
    "LEASING_SCHEDULER_CLAIM_SECONDS": "5",
    "LEASING_SCHEDULER_RETRY_SECONDS": "0.3",
    "LEASING_SCHEDULER_STOP_GRACE_SECONDS": "0",
    "LEASING_SCHEDULER_ORPHAN_GRACE_SECONDS": "2",
    "LEASING_SCHEDULER_MISSING_SECONDS": "2",
    "LEASING_SCHEDULER_WORKERS": "8",
    "LEASING_SCHEDULER_DISK_RESERVE_BYTES": "0",
    "LEASING_HANDOVER_PATIENCE_SECONDS": "5",
    "LEASING_DOCKER_TIMEOUT_SECONDS": "10",
    "LEASING_NODE_INTERVAL_SECONDS": "1",
    "LEASING_WARM_SANDBOXES": "2",
    "LEASING_WARM_SANDBOXES_MOST": "3",
}


@dataclass
class Place:
    """A node: its engine, its devices, and the disk that its engine's data lie on where that can be filled."""

    name: str
    engine: SecondEngine
    nvml: FakeNvml
    address: str
    driver: DockerDriver
    disk: SmallDisk | None
    node_id: UUID
    decoys: Decoys
    metrics_port: int = field(default_factory=free_port)

    def missing(self) -> list[str]:
        """Names of what was another installation's and is gone, by more than the engine's own fault."""
        if self.engine.forgot_networks:
            self.decoys.make_network()
            self.engine.forgot_networks = False
        return self.decoys.missing()


@dataclass
class World:
    """All of it, and what is down at present."""

    root: Path
    postgres: OwnPostgres
    clock: Clock
    disk: SmallDisk | None
    places: dict[str, Place]
    environment: dict[str, str]
    url: str
    installation: str
    tokens: dict[str, str]
    nursery: Nursery
    api: str
    gateway: str
    parts: dict[str, Part | None] = field(default_factory=dict)
    held_down: set[str] = field(default_factory=set)
    """Parts that are not to be started again yet."""
    frozen: set[str] = field(default_factory=set)
    """Parts and engines that do nothing just now, and know nothing of it."""

    @property
    def roles(self) -> dict[str, tuple[str, dict[str, str]]]:
        """Part -> its role and what it is told beyond what all are."""
        nodes = {
            f"node-{name}": (
                "node",
                {
                    **place.nvml.environment(),
                    "LEASING_NODE_NAME": name,
                    "LEASING_NODE_API": self.api,
                    "LEASING_NODE_TOKEN_FILE": str(self.root / f"{name}.token"),
                    "LEASING_NODE_PORT": str(place.metrics_port),
                },
            )
            for name, place in self.places.items()
        }
        return {
            "api": ("api", {}),
            "gateway": ("gateway", {"LEASING_DOCKER_NETWORK_POOL": "10.192.0.0/12"}),
            "scheduler-1": ("scheduler", {}),
            "scheduler-2": ("scheduler", {}),
            **nodes,
        }

    def supervise(self) -> None:
        """Start what has died and is not to stay down, as `lease serve` does; from the main thread."""
        if "postgres" not in self.held_down and not self.postgres.pid:
            with suppress(
                HostError, psycopg.OperationalError
            ):  # its disk may be full: again at the next look
                self.postgres.start()
        for name, place in self.places.items():
            if f"engine-{name}" not in self.held_down and place.engine.pid is None:
                place.engine.launch()
        for name, (role, special) in self.roles.items():
            part = self.parts.get(name)
            if name not in self.held_down and (part is None or not part.alive):
                log = self.root / f"{name}.log"
                self.parts[name] = self.nursery.start(name, role, {**self.environment, **special}, log)

    def answers(self, name: str) -> bool:
        """Whether that engine may be asked something: a frozen one would keep us waiting."""
        return self.places[name].engine.pid is not None and f"engine-{name}" not in self.frozen

    def connect(self) -> psycopg.Connection[dict[str, object]]:
        """A connection of the harness's own."""
        return psycopg.connect(
            plain_url(self.url), autocommit=True, application_name="chaos", connect_timeout=3,
            row_factory=psycopg.rows.dict_row,
        )  # fmt: skip

    def log(self, name: str) -> str:
        path = self.root / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def up(self) -> bool:
        """Whether the api says that leases will be served, both nodes' engines and samplers are heard, and endpoints
        are served."""
        try:
            with httpx.Client(trust_env=False, timeout=3) as client:
                if client.get(f"{self.api}/readyz").status_code != 200:
                    return False
                client.get(self.gateway)
        except httpx.HTTPError:
            return False
        return True


@contextmanager
def world(*, small_disks: bool = True, keep: bool = False) -> Iterator[World]:
    """One that is up; afterwards nothing of it is left (with `keep`, its logs are). From the main thread."""
    root = Path(tempfile.mkdtemp(prefix="leasing-chaos-"))
    root.chmod(0o711)
    with ExitStack() as stack:
        if not keep:
            stack.callback(shutil.rmtree, root, ignore_errors=True)
        nursery = Nursery()  # it loads while the rest starts
        stack.callback(nursery.close)
        disks = small_disks and SmallDisk.possible()
        disk = _disk(stack, root / "pg.img", root / "pg", DISK_MEGABYTES) if disks else None
        clock = Clock(root)
        postgres = OwnPostgres(root, settings=POSTGRES, only=None)
        put_under(postgres, clock)
        stack.callback(postgres.stop)
        postgres.start()
        url = driver_url(postgres.url)
        migrate(url)
        engines = {name: _engine(stack, root, name, disks=disks) for name in NODES}
        made = _populate(url, root, engines)
        api, gateway = free_port(), free_port()
        environment = {
            **QUICK,
            POOLS: json.dumps({place.address: place.engine.pool for place in made.places.values()}),
            "LEASING_DATABASE_URL": plain_url(url), "LEASING_STATE_DIR": str(root), "LEASING_LOG_LEVEL": "INFO",
            "LEASING_PORT": str(api), "LEASING_GATEWAY_PORT": str(gateway),
        }  # fmt: skip
        key(CoreSettings(state_dir=root).secret_key_file())
        found = World(
            root, postgres, clock, disk, made.places, environment, url, made.installation, made.tokens, nursery,
            f"http://127.0.0.1:{api}", f"http://127.0.0.1:{gateway}",
        )  # fmt: skip
        for place in made.places.values():
            place.decoys.make()
            stack.callback(place.driver.close)
        found.supervise()
        until(found.up, what="the platform", seconds=60)
        yield found


@dataclass
class _Populated:
    places: dict[str, Place]
    installation: str
    tokens: dict[str, str]


def _engine(
    stack: ExitStack, root: Path, name: str, *, disks: bool
) -> tuple[SecondEngine, FakeNvml, SmallDisk | None]:
    """The second is on another machine, as far as the platform can tell, and has a small disk."""
    devices = [
        FakeDevice(f"GPU-{name:0>8}-{index:012d}", pci=f"00000000:{index + 1:02x}:00.0", faults="xid=79:0")
        for index in range(DEVICES)
    ]
    nvml = FakeNvml(root / f"nvml-{name}", devices)
    far = name == NODES[1]
    engine = SecondEngine(nvml=nvml, remote=far)
    disk = _disk(stack, root / f"{name}.img", engine.root / "data", DISK_MEGABYTES) if far and disks else None
    stack.enter_context(engine)
    return engine, nvml, disk


def _disk(stack: ExitStack, image: Path, place: Path, megabytes: int) -> SmallDisk:
    disk = SmallDisk(image, place, megabytes=megabytes)
    stack.callback(disk.close)
    return disk


def _populate(
    url: str, root: Path, engines: Mapping[str, tuple[SecondEngine, FakeNvml, SmallDisk | None]]
) -> _Populated:
    engine = create_engine(url, "chaos-prepare", pool_size=1)
    places: dict[str, Place] = {}
    tokens: dict[str, str] = {}
    with sessions(engine).begin() as session:
        own = installation.get_or_create(session)
        session.add(Policy(name="chaos", protected_seconds=1))
        for name, (docker, nvml, disk) in engines.items():
            address = docker.remote or docker.address
            node, token = cluster.register_node(session, name, driver="docker", address=address)
            (root / f"{name}.token").write_text(f"{token}\n")
            driver = docker.driver()  # over its own socket: the harness sees it when the platform cannot
            places[name] = Place(
                name, docker, nvml, address, driver, disk, node.id, Decoys(docker.address, own)
            )
        for name, role in [("root", Role.ADMIN), *((name, Role.DEVELOPER) for name in PEOPLE)]:
            who = user(session, name, role)
            tokens[name] = people.issue(session, who.user_id, TokenKind.API, "chaos", expires_at=None)[1]
    engine.dispose()
    return _Populated(places, own, tokens)
