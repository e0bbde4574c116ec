"""P8 and P9: both data planes beside other proxies, one core each; and a revocation under that load.

Behind all is one application with 1 KB; 64 connections are kept busy. The planes authorise each call among 5,000 tokens
and 1,000 leases and account for it; what stands beside them does neither, but for `auth_request`, whose answer is kept
for five seconds.
"""

from __future__ import annotations

import secrets
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.database import plain_url
from leasing.host.postgres import OwnPostgres
from leasing.migrating import migrate
from leasing.model import Lease, Run, Token, TokenKind
from leasing.service import people
from leasing.states import Role
from tests.benchmarks import _proxies
from tests.benchmarks._measure import said
from tests.benchmarks._proxies import PROXY, REST, Contestant, Load
from tests.support.cluster import Cluster, user
from tests.support.stack import free_port, until

ROUNDS, SECONDS = 5, 3
USERS, TOKENS, LEASES = 500, 5_000, 1_000
REVOCATIONS = 20
GOALS = {"haproxy": 0.70, "builtin": 0.30}


def main() -> None:
    quick = "--quick" in sys.argv
    rounds, seconds = (2, 1) if quick else (ROUNDS, SECONDS)
    folder = Path(tempfile.mkdtemp(prefix="leasing-benchmark-"))
    folder.chmod(0o711)
    try:
        with ExitStack() as stack:
            port = stack.enter_context(_proxies.origin(folder))
            url = stack.enter_context(database(folder))
            tokens = furnished(url, port)
            peers = stack.enter_context(_proxies.peers(folder, port))
            planes = {
                plane: stack.enter_context(gateway(folder, url, plane, tokens[0]))
                for plane in ("builtin", "haproxy")
            }
            speed([*peers, *planes.values()], rounds, seconds)
            api = stack.enter_context(serving(folder, url))
            for plane, one in planes.items():
                revocation(plane, one, api, tokens, seconds * 2)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def speed(contestants: list[Contestant], rounds: int, seconds: int) -> None:
    """Rounds in turn, so that what else the machine does meets all alike."""
    for one in contestants:
        one.load(1)
    found: dict[str, list[Load]] = {one.name: [] for one in contestants}
    for _ in range(rounds):
        for one in contestants:
            found[one.name].append(one.load(seconds))
    anchor = found[contestants[0].name]
    print(
        f"P8, gateway: {_proxies.CONNECTIONS} connections, {_proxies.BYTES} bytes, one core, {rounds} rounds"
    )
    for name, loads in found.items():
        pairs = list(zip(loads, anchor, strict=True))
        rates = [one.rate / base.rate for one, base in pairs]
        goal = next((value for plane, value in GOALS.items() if plane in name), None)
        print(
            f"  {name:24} {said([one.rate for one in loads], '/s', 1):34} {said(rates, 'x', 1)}{_verdict(rates, goal)}"
        )
        late, slow = [one.p99_ms for one in loads], [one.p99_ms / base.p99_ms for one, base in pairs]
        used, work = [one.cpu_us for one in loads], [base.cpu_us / one.cpu_us for one, base in pairs]
        print(
            f"  {'':24} p99 {statistics.median(late):.1f} ms, {statistics.median(slow):.2f}x; "
            f"CPU {statistics.median(used):.1f} us a call, {statistics.median(work):.2f}x as many for as much"
        )


def _verdict(ratio: list[float], goal: float | None) -> str:
    return "" if goal is None else f"; goal {goal}: {'met' if statistics.median(ratio) >= goal else 'missed'}"


def revocation(plane: str, loaded: Contestant, api: str, tokens: list[str], seconds: int) -> None:
    """Tokens revoked one after the other while the plane is loaded: from the answer to the last call that passed."""
    stop = threading.Event()

    def keep() -> None:
        while not stop.is_set():
            loaded.load(seconds)

    load = threading.Thread(target=keep)
    load.start()
    late: list[float] = []
    took: list[float] = []
    with httpx.Client(
        base_url=f"{api}/api/v1", headers={"Authorization": f"Bearer {tokens[0]}"}, timeout=20
    ) as admin:
        for _ in range(REVOCATIONS):
            made = admin.post("/tokens", json={"label": "bench", "ttl": "1h"}).raise_for_status().json()
            mine = Contestant("one", loaded.url, loaded.pid, made["secret"])
            with httpx.Client(headers={"Authorization": f"Bearer {mine.token}"}) as client:
                until(lambda: client.post(mine.url).status_code == 200, what="the new token")  # noqa: B023 - called at once
                began = time.perf_counter()
                admin.delete(f"/tokens/{made['id']}").raise_for_status()
                answered = time.perf_counter()
                took.append(answered - began)
                last = answered
                while (asked := time.perf_counter()) - answered < 2 and client.post(
                    mine.url
                ).status_code == 200:
                    last = asked
                late.append(last - answered)
    stop.set()
    load.join()
    worst = max(late) * 1000
    print(
        f"P9, {plane}: revoked in {said(took)}; the last call that passed began {worst:.1f} ms after the answer, of "
        f"{REVOCATIONS}; goal 25 ms: {'met' if worst <= 25 else 'missed'}"
    )


@contextmanager
def database(folder: Path) -> Iterator[str]:
    postgres = OwnPostgres(folder, settings={"fsync": "off"}, only=None)
    try:
        postgres.start()
        migrate(postgres.url)
        yield postgres.url
    finally:
        postgres.stop()


def furnished(url: str, port: int) -> list[str]:
    """Users, their tokens, and as many running leases; the first token is an admin's. All leases are the one origin."""
    with Cluster.opened(url, cpus=4 * LEASES, memory=2**44) as cluster:
        first = cluster.run(name="lease-0", port=port)
        with cluster.sessions.begin() as session:
            session.execute(sa.update(Run).values(address="127.0.0.1"))
            admin = user(session, "root", Role.ADMIN)
            owners = [user(session, f"user-{number}").user_id for number in range(USERS)]
            tokens = [f"lse_{secrets.token_urlsafe(32)}" for _ in range(TOKENS)]
            holders = [admin.user_id, *(owners[number % USERS] for number in range(TOKENS - 1))]
            session.execute(
                sa.insert(Token),
                [
                    {
                        "user_id": holder,
                        "kind": TokenKind.API,
                        "hash": people.hashed(secret),
                        "label": "benchmark",
                    }
                    for holder, secret in zip(holders, tokens, strict=True)
                ],
            )
            _multiply(session, first.id, owners)
    return tokens


def _multiply(session: Session, lease_id: UUID, owners: list[UUID]) -> None:
    """More leases like that one, each with its run, under names and owners of their own."""
    lease = dict(session.execute(sa.select(Lease.__table__).where(Lease.id == lease_id)).mappings().one())
    run = dict(session.execute(sa.select(Run.__table__).where(Run.lease_id == lease_id)).mappings().one())
    del lease["arrival"]  # the database's to give
    leases = [
        lease | {"id": uuid4(), "name": f"lease-{number}", "owner_id": owners[number % USERS]}
        for number in range(1, LEASES)
    ]
    session.execute(sa.insert(Lease), leases)
    session.execute(
        sa.insert(Run),
        [
            run | {"id": uuid4(), "lease_id": one["id"], "container_id": f"bench-{one['name']}"}
            for one in leases
        ],
    )


@contextmanager
def gateway(folder: Path, url: str, plane: str, token: str) -> Iterator[Contestant]:
    """The role as `lease serve` starts it, on the measured core."""
    port = free_port()
    with serving_role(folder, url, "gateway", PROXY, {
        "LEASING_GATEWAY_PORT": str(port), "LEASING_GATEWAY_PLANE": plane, "LEASING_GATEWAY_PROXY_THREADS": "1",
        "LEASING_DOCKER_NETWORK_POOL": "127.0.0.0/8",
    }) as pid:  # fmt: skip
        one = Contestant(f"ours, {plane}", f"http://127.0.0.1:{port}/l/lease-1/", pid, token)

        def ready() -> bool:
            try:
                return httpx.get(one.url, headers={"Authorization": f"Bearer {token}"}).status_code == 200
            except httpx.TransportError:
                return False

        until(ready, what=one.name, seconds=60)
        yield one


@contextmanager
def serving(folder: Path, url: str) -> Iterator[str]:
    """The api, for what is revoked through it."""
    port = free_port()
    with serving_role(folder, url, "api", REST, {"LEASING_PORT": str(port)}):
        address = f"http://127.0.0.1:{port}"
        _proxies.answers(f"{address}/healthz")
        yield address


@contextmanager
def serving_role(
    folder: Path, url: str, role: str, core: int | str, settings: dict[str, str]
) -> Iterator[int]:
    command = [sys.executable, "-m", "leasing.cli.app", "serve", "--role", role]
    common = {"LEASING_DATABASE_URL": plain_url(url), "LEASING_STATE_DIR": str(folder / "state")}
    with _proxies.process(command, core, folder / f"{role}.log", common | settings) as pid:
        try:
            yield pid
        except BaseException:
            print((folder / f"{role}.log").read_text()[-4000:])
            raise


if __name__ == "__main__":
    main()
