"""A team's day for pictures and for judging how pages look: the real pages on an engine in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import sqlalchemy as sa
from playwright.sync_api import Page
from sqlalchemy.orm import Session

import web
from api import server
from leasing.accounting import Condition
from leasing.database import now
from leasing.model import (
    Allocation,
    Counting,
    Device,
    DeviceSpan,
    Event,
    Keep,
    Lease,
    Node,
    Run,
    RunSpan,
    RunUse,
    SignalKind,
    TokenKind,
    User,
    Workspace,
)
from leasing.schema.policy import PolicyIn
from leasing.service import people, policymaking, signals
from leasing.service.principal import Principal
from leasing.service.signals import Observation
from leasing.service.used import hour_of
from leasing.settings.core import CoreSettings
from leasing.settings.limits import LimitSettings
from leasing.states import Role, Verdict
from tests.support import browser
from tests.support.activity import story
from tests.support.api import application
from tests.support.browser import Tab
from tests.support.calendar import book
from tests.support.cluster import Cluster, user
from tests.support.stack import free_port, until

TRAINING = ("torchrun", "--nproc-per-node=2", "train.py", "--config", "llama-8b.yaml")
OUTPUT = b"".join(
    b"step %5d   loss %.4f   lr 3.0e-04   %d tok/s\n" % (step, 2.31 - step / 20_000, 41_800 + step * 37 % 900)
    for step in range(4_000, 5_200, 50)
)
PROMPT = "\x1b[1;32mlease@train-llama\x1b[0m:\x1b[1;34m/workspace/llama\x1b[0m$ "
SHELL = f"""{PROMPT}nvidia-smi --query-gpu=index,name,utilization.gpu,memory.used --format=csv,noheader
0, NVIDIA A100-SXM4-40GB, 97 %, 35812 MiB
1, NVIDIA A100-SXM4-40GB, 94 %, 35790 MiB
{PROMPT}tail -n 3 train.log
step  5050   loss \x1b[33m2.0575\x1b[0m   lr 3.0e-04   42450 tok/s
step  5100   loss \x1b[33m2.0550\x1b[0m   lr 3.0e-04   42600 tok/s
step  5150   loss \x1b[33m2.0525\x1b[0m   lr 3.0e-04   42650 tok/s
{PROMPT}ls -lh checkpoints
total 45G
-rw-r--r-- 1 lease lease 15G Nov 21 12:40 \x1b[31mstep-03000.safetensors\x1b[0m
-rw-r--r-- 1 lease lease 15G Nov 21 13:52 \x1b[31mstep-04000.safetensors\x1b[0m
-rw-r--r-- 1 lease lease 15G Nov 21 15:04 \x1b[31mstep-05000.safetensors\x1b[0m
{PROMPT}""".replace("\n", "\r\n").encode()
FILES = {
    "llama/README.md": 2_140, "llama/train.py": 18_320, "llama/llama-8b.yaml": 1_204, "llama/train.log": 412_000,
    "llama/data/tokens-000.bin": 700_000, "llama/checkpoints/step-05000.safetensors": 900_000,
    "llama/eval/mmlu.json": 48_100, "llama/.gitignore": 96, "llama/requirements.txt": 310,
}  # fmt: skip
PAGES = {
    "list": "/?all=true",
    "lease": "/leases/train-llama",
    "terminal": "/leases/train-llama/terminal",
    "files": "/leases/train-llama/files?path=/workspace/llama",
    "waiting": "/leases/pretrain-70b",
    "ended": "/leases/finetune-bert",
    "new": "/new",
    "machines": "/machines",
    "calendar": "/calendar",
    "day": "/calendar?days=1",
    "free day": "/calendar?from=2035-01-01&days=1",
    "workspaces": "/workspaces",
    "usage": "/usage?days=1&whose=all",
    "used": "/usage?days=7&by=day",
    "policies": "/policies",
    "policy": "/policies/lab",
    "new policy": "/new-policy",
    "missing": "/leases/nosuch",
}
"""Every page, by what a picture of it is called."""


@dataclass(frozen=True)
class Gallery:
    """Pages that listen; `session` is ada's cookie, who is an admin."""

    url: str
    session: str

    def options(self) -> dict[str, Any]:
        """For her browser."""
        return {"storage_state": browser.holding(self.session, self.url)}


@contextmanager
def gallery(database_url: str, folder: Path) -> Iterator[Gallery]:
    cluster = Cluster.make(database_url, devices=8)
    secret = _seed(cluster)
    settings = CoreSettings(state_dir=folder, port=free_port())
    app = application(cluster, settings)
    web.mount(app)
    stopping = threading.Event()
    thread = threading.Thread(target=server.run, args=(app, settings, cluster.sessions, stopping))
    thread.start()
    try:
        until(lambda: _answers(settings.url), what="the first answer", seconds=10)
        yield Gallery(settings.url, secret)
    finally:
        stopping.set()
        thread.join(10)
        cluster.sessions.kw["bind"].dispose()


def walk(tab: Tab) -> Iterator[tuple[str, Page]]:
    """Each page in turn, one with marked fields and one with an open dialog too; at last as nobody who is signed in."""
    for name, path in PAGES.items():
        yield name, tab.open(path)
    page = tab.open("/new")
    page.get_by_label("Memory").fill("lots")
    page.get_by_role("button", name="Ask for it").click()
    page.get_by_role("alert").wait_for()
    yield "refused", page
    page.goto(f"{tab.origin}/new-policy")
    page.get_by_label("Name").fill("house-rules")
    page.get_by_label("Idle after").fill("30m")
    page.get_by_label("Working hours").fill("always")
    page.get_by_role("button", name="Make it").click()
    page.get_by_role("alert").wait_for()
    yield "refused policy", page
    page.get_by_label("Working hours").fill("")
    page.get_by_role("button", name="Try it first").click()
    page.get_by_role("region", name="What it would have done").wait_for()
    yield "trial", page
    page = tab.open("/leases/train-llama")
    page.get_by_text("What each signal says").click()
    page.get_by_text("Keep it although it looks idle").click()
    yield "keep", page
    page.get_by_role("button", name="Release…").click()
    page.get_by_role("dialog").wait_for()
    yield "dialog", page
    tab.page.context.clear_cookies()
    yield "signin", tab.open("/signin")


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").status_code == 200
    except httpx.TransportError:
        return False


def _seed(cluster: Cluster) -> str:
    ada = cluster.ada
    with cluster.sessions.begin() as session:
        grace = user(session, "grace")
        session.get_one(Node, cluster.node_id).name = "a100-1"
        session.execute(sa.update(User).where(User.name == "ada").values(role=Role.ADMIN))
    train = cluster.run(
        name="train-llama", gpu="2", cpus="16", memory="64G", ttl="8h", idle_timeout="30m", workspace="llama",
        command=list(TRAINING), env={"WANDB_MODE": "offline"}, port=6006,
    )  # fmt: skip
    cluster.driver.say(cluster.container(train.id), OUTPUT)
    cluster.driver.knobs.greeting = SHELL
    for name, size in FILES.items():
        cluster.driver.write_file(cluster.container(train.id), f"/workspace/{name}", bytes(size))
    notebook = cluster.run(name="notebook", gpu="1", cpus="4", memory="32G", ttl="4h", port=8888)
    done = cluster.run(
        name="finetune-bert", gpu="1", cpus="4", memory="16G", command=["python3", "finetune.py"]
    )
    cluster.release(done.id)
    cluster.work()
    cluster.ada = grace
    evaluation = cluster.run(name="eval-mmlu", gpu="4", cpus="16", memory="96G", ttl="2h")
    sweep = cluster.run(name="sweep-lr", gpu="0", cpus="8", memory="16G", ttl="12h")
    waiting = cluster.ask(
        name="pretrain-70b", gpu="8", cpus="32", memory="128G", ttl="24h", command=["bash", "run.sh"]
    )
    cluster.plan()
    _book(cluster, ada, grace)
    story(cluster, train, "x" * 190)
    story(cluster, notebook, "x" * 40 + "." * 75 + "x" * 25 + "." * 40 + "x" * 4)
    cluster.ada = ada
    with cluster.sessions.begin() as session:
        moment = now(session)
        for lease, image, minutes in (
            (train, "pytorch", 192), (notebook, "pytorch", 47), (done, "pytorch", 300), (evaluation, "pytorch", 21),
            (sweep, "base", 95), (waiting, "pytorch", 12),
        ):  # fmt: skip
            _age(session, session.get_one(Lease, lease.id), image, timedelta(minutes=minutes))
        finished = session.get_one(Lease, done.id)
        session.execute(
            sa.update(Workspace).values(size_bytes=41 * 2**30, measured_at=moment, last_used_at=moment)
        )
        finished.last_log = "epoch 3/3  f1 0.914\nsaved to /workspace/bert\n"
        _measure(session, moment)
        _keep(session, train.id, moment)
        _rule(session, replace(ada, role=Role.ADMIN), moment)
        _count(session, moment)
        return people.issue(session, ada.user_id, TokenKind.SESSION, "test", expires_at=None)[1]


def _rule(session: Session, ada: Principal, moment: datetime) -> None:
    """How leases of the two are taken back."""
    limits = LimitSettings()
    for name, terms in {
        "house": {"window_seconds": 7200, "warnings": [1800, 600], "longest_seconds": 43_200},
        "lab": {
            "environment": "team/lab:1", "window_seconds": 1800, "learned": True, "thresholds": {"gpu": 0.05},
            "hours": {"days": ["mon", "tue", "wed", "thu", "fri"], "begin": "09:00", "end": "18:00", "zone": "UTC"},
            "retention_seconds": 0,
        },
        "serving": {"lease": "sweep-lr", "window_seconds": 0},
    }.items():  # fmt: skip
        policymaking.put(
            session,
            name,
            PolicyIn.model_validate(terms),
            environments=(),
            principal=ada,
            limits=limits,
            now=moment,
        )


def _book(cluster: Cluster, ada: Principal, grace: Principal) -> None:
    """What the two have planned for the week."""
    with cluster.sessions() as session:
        midnight = now(session).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    book(cluster, ada, name="review", gpu="1", starts_at=timedelta(hours=3), ttl="5h")
    for who, name, gpu, hours, ttl in (
        (ada, "nightly-eval", "4", 44, "6h"), (grace, "nightly", "2", 46, "8h"),
        (grace, "pretrain-30b", "4", 66, "46h"), (ada, "demo-day", "2", 80, "10h"),
        (ada, "camera-ready", "8", 129, "33h"),
    ):  # fmt: skip
        start = midnight + timedelta(hours=hours)
        book(cluster, who, name=name, gpu=gpu, cpus="8", memory="32G", starts_at=start, ttl=ttl)


def _age(session: Session, lease: Lease, image: str, by: timedelta) -> None:
    """As if it had been asked for so long ago; nobody waits in a test for hours to pass."""
    lease.image = image
    for column in ("created_at", "queued_at", "started_at", "ends_at"):
        at: datetime | None = getattr(lease, column)
        if at is not None:
            setattr(lease, column, at - by)
    if lease.ended_at is not None:
        lease.ended_at -= timedelta(minutes=26)
    session.execute(sa.update(Run).where(Run.lease_id == lease.id).values(placed_at=Run.placed_at - by))
    session.execute(sa.update(Event).where(Event.lease_id == lease.id).values(at=Event.at - by))
    runs = sa.select(Run.id).where(Run.lease_id == lease.id)
    session.execute(
        sa.update(Allocation).where(Allocation.run_id.in_(runs)).values(created_at=Allocation.created_at - by)
    )
    session.execute(
        sa.update(RunSpan)
        .where(RunSpan.run_id.in_(runs))
        .values(since=RunSpan.since - by, until=lease.ended_at)
    )


def _keep(session: Session, lease_id: UUID, moment: datetime) -> None:
    """It trains, and is kept until that is done."""
    lease = session.get_one(Lease, lease_id)
    lease.idle_verdict, lease.idle_reason = Verdict.ACTIVE, "GPU, CPU in use; kept by its owner"
    keep = Keep(
        lease_id=lease_id, command=["pgrep", "-f", "train.py"], asked_by="user:ada", exit_code=0,
        created_at=moment - timedelta(minutes=95), checked_at=moment - timedelta(seconds=12),
    )  # fmt: skip
    session.add(keep)
    values = {
        "gpu": 0.97,
        "gpu_memory": 0,
        "cpu": 7.4,
        "disk": 4e7,
        "network": 900,
        "endpoint": 0,
        "terminal": 0,
    }
    signals.observe(
        session,
        [Observation(lease_id, SignalKind(kind), value) for kind, value in (values | {"keep": 1}).items()],
        now=moment,
    )


def _count(session: Session, moment: datetime) -> None:
    """What was measured lately, and how devices were."""
    began = hour_of(moment) - timedelta(hours=9)
    node = session.execute(sa.select(Node)).scalar_one()
    session.add(Counting(node_id=node.id, looked_at=moment, compared_at=moment, sealed_until=began))
    for device in session.execute(sa.select(Device).order_by(Device.index)).scalars():
        device.created_at = began
        broken = began + timedelta(hours=2 + device.index % 4)
        for condition, since, end in (
            (Condition.FREE, began, broken), (Condition.CORDONED, broken, broken + timedelta(minutes=40)),
            (Condition.FREE, broken + timedelta(minutes=40), None),
        ):  # fmt: skip
            session.add(DeviceSpan(device_id=device.id, condition=condition, since=since, until=end))
    runs = session.execute(sa.select(Run.id, Lease.gpu_count).join(Lease, Lease.id == Run.lease_id))
    for number, (run_id, gpus) in enumerate(runs):
        model = session.execute(sa.select(Device.model).limit(1)).scalar_one() if gpus else ""
        for ago in range(8):
            hour, seconds = hour_of(moment) - timedelta(hours=ago), 3000.0 * max(1, gpus)
            for of, busy in {"": 0.4, model: 0.9 - 0.2 * number}.items():
                used = RunUse(run_id=run_id, hour=hour, model=of, measured=seconds, used=busy * seconds)
                session.add(used)


def _measure(session: Session, moment: datetime) -> None:
    node = session.execute(sa.select(Node)).scalar_one()
    node.engine_seen_at = node.sampler_seen_at = moment
    node.sampler = {"nvml_driver_version": "560.35.05"}
    devices = session.execute(sa.select(Device).order_by(Device.index)).scalars()
    for device, use in zip(devices, (0.97, 0.94, 0.12, 0.88, 0.91, 0.86, 0.9, 0.0), strict=True):
        device.uuid = f"GPU-5d1e8a0{device.index}-77c4-4be1-9f0a-3c2b6d0e91a{device.index}"
        device.utilization_ratio = use
        device.memory_used_bytes = int((0.05 + 0.85 * use) * device.memory_bytes)
        device.power_watts, device.temperature_celsius = 62 + 330 * use, 33 + 34 * use
        # stays fresh for as long as pictures are taken
        device.sampled_at = moment + timedelta(minutes=5)
