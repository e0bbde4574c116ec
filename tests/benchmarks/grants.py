"""P4: durable grants. Request, placed, running, released and over, through the REST API, on an engine in memory.

Beside it, on the same server, pgbench runs the statements that one such cycle issues, taken from the server's own log:
both with 8 clients and PostgreSQL as it is installed, in interleaved rounds. Then the planner's commit alone, with 100
placements in one plan.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import psycopg
import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.database import create_engine, now, plain_url, sessions
from leasing.gpus import GpuAsk
from leasing.model import Allocation, Lease, Run, User
from leasing.model import Device as DeviceRow
from leasing.model import Node as NodeRow
from leasing.model.project import Project
from scheduler.commit import commit
from scheduler.policy.snapshot import Device, Grant, Node, Placement, Plan, Request, Waiting
from tests.benchmarks import _replay
from tests.benchmarks._clients import Client, Watch, cycles
from tests.benchmarks._measure import said
from tests.benchmarks._memory import Platform, running
from tests.benchmarks._replay import Own, Script

ROUNDS, CLIENTS, SECONDS, DEVICES = 5, 8, 4, 16
AT_ONCE, SHARE, CPUS_MILLIS, MEMORY = 100, 10, 100, 2**26


def main() -> None:
    with running(devices=DEVICES, users=CLIENTS) as platform, tempfile.TemporaryDirectory() as folder:
        asyncio.run(cycles(platform, clients=CLIENTS, seconds=2))  # everything warm
        script = captured(platform)
        ours: list[float] = []
        plain: list[float] = []
        planner: list[float] = []
        for _ in range(ROUNDS):
            ours.append(asyncio.run(cycles(platform, clients=CLIENTS, seconds=SECONDS)))
            plain.append(
                _replay.pgbench(platform.copy, script, Path(folder), clients=CLIENTS, seconds=SECONDS)
            )
            planner.append(placements(platform.copy))
    print(f"P4, durable grants: what one cycle says to PostgreSQL, in {script.commits} transactions")
    for line in script.listed:
        print(f"  {line}")
    ratio = [mine / theirs for mine, theirs in zip(ours, plain, strict=True)]
    alone = [mine / theirs for mine, theirs in zip(planner, plain, strict=True)]
    print(f"  cycles        {said(ours, '/s', 1)}   pgbench {said(plain, '/s', 1)}")
    print(f"                ratio {said(ratio, 'x', 1)}; goal 0.5: {verdict(ratio, 0.5)}")
    print(f"  commit alone  {said(planner, 'placements/s', 1)}")
    print(f"                ratio {said(alone, 'x', 1)}; goal 8: {verdict(alone, 8)}")


def verdict(ratio: list[float], goal: float) -> str:
    return "met" if statistics.median(ratio) >= goal else "missed"


def captured(platform: Platform) -> Script:
    """The statements of one cycle that had the platform to itself."""
    log = platform.postgres.log_file
    _log_statements(platform, "all")
    begin = log.stat().st_size
    lease = asyncio.run(_alone(platform))
    _log_statements(platform, "none")
    with log.open() as lines:
        lines.seek(begin)
        text = lines.read()
    with psycopg.connect(plain_url(platform.postgres.url)) as connection:
        row = connection.execute(
            "SELECT lease.id::text, lease.name, run.id::text, container_id, device_id::text, owner_id::text,"
            " hash::text FROM lease JOIN run ON run.lease_id = lease.id JOIN allocation ON allocation.run_id = run.id"
            " JOIN token ON token.user_id = owner_id AND label = 'benchmark' WHERE lease.id = %s",
            [lease],
        ).fetchone()
        assert row is not None
        devices = connection.execute(
            "SELECT id::text FROM device ORDER BY index LIMIT %s", [CLIENTS]
        ).fetchall()
        users = connection.execute(
            "SELECT user_id::text, hash::text FROM token WHERE label = 'benchmark' ORDER BY created_at, id"
        ).fetchall()
    own = Own(*row)
    mentioned = [one for one in _replay.transactions(text) if one.names(own.lease) or one.names(own.name)]
    return _replay.script(mentioned, own, devices=[one for (one,) in devices], users=users)


def _log_statements(platform: Platform, value: str) -> None:
    with psycopg.connect(platform.postgres.admin_url, autocommit=True) as connection:
        connection.execute(f"ALTER SYSTEM SET log_statement = '{value}'".encode())
        connection.execute("SELECT pg_reload_conf()")
    time.sleep(0.5)


async def _alone(platform: Platform) -> str:
    client = Client(platform, 0)
    await client.open()
    watch = Watch(platform.postgres.url)
    await watch.start()
    lease = await client.cycle(watch)
    await asyncio.sleep(1)  # what follows the end is the cycle's too
    watch.stop()
    client.close()
    return lease


def placements(url: str) -> float:
    """Placements a second of the planner's commit, many in one plan."""
    engine = create_engine(url, "leasing-benchmark")
    make = sessions(engine)
    took: list[float] = []
    try:
        for _ in range(5):
            with make.begin() as session:
                plan = _plan(session)
            began = time.perf_counter()
            with make.begin() as session:
                done = commit(session, plan, now(session))
            took.append(time.perf_counter() - began)
            assert done.placed == AT_ONCE
            with make.begin() as session:
                _clear(session)
    finally:
        engine.dispose()
    return AT_ONCE / statistics.median(took)


def _plan(session: Session) -> Plan:
    devices = session.execute(sa.select(DeviceRow)).scalars().all()
    node = Node(
        session.execute(sa.select(NodeRow.id)).scalar_one(), "local", 10**6, 2**40,
        [Device(row.id, row.uuid, row.index, row.model, row.memory_bytes, 1000, row.memory_bytes) for row in devices],
    )  # fmt: skip
    owner = session.execute(sa.select(User.id).limit(1)).scalar_one()
    project = session.execute(sa.select(Project.id).limit(1)).scalar_one()
    leases = [
        Lease(
            name=f"many-{number}", owner_id=owner, project_id=project, image="i", gpu_count=1, gpu_share=SHARE,
            cpus_millis=CPUS_MILLIS, memory_bytes=MEMORY, ttl_seconds=60,
        )
        for number in range(AT_ONCE)
    ]  # fmt: skip
    session.add_all(leases)
    session.flush()
    request = Request(GpuAsk(1, None, SHARE), CPUS_MILLIS, MEMORY)
    return Plan(
        [
            Placement(
                Waiting(lease.id, lease.name, request, True), node,
                [Grant(node.devices[number % len(devices)], SHARE, MEMORY)],
            )
            for number, lease in enumerate(leases)
        ],
        [], {},
    )  # fmt: skip


def _clear(session: Session) -> None:
    """Out of the way of the next, by what a stopper does, for all of them."""
    moment = now(session)
    session.execute(sa.update(Run).where(Run.released_at.is_(None)).values(released_at=moment))
    session.execute(sa.update(Allocation).where(Allocation.released_at.is_(None)).values(released_at=moment))
    session.execute(
        sa.update(Lease)
        .where(Lease.state == "placed")
        .values(state="ended", reason="released", ended_at=moment)
    )


if __name__ == "__main__":
    main()
