"""`python -m tests.benchmarks.usage`: how long it takes to seal an hour of 1,000 leases (aim: 2 s), and to show it."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.database import create_engine, now, sessions
from leasing.model import UsageHour
from leasing.schema.usage import UsageBy
from leasing.service import periods, usage
from leasing.service.principal import Principal
from leasing.states import Role
from scheduler.clock import Clock
from scheduler.reconcile import usage as stage
from tests.support.cluster import user
from tests.support.past import A100, Past
from tests.support.postgres import TestDatabases, running

LEASES, HOURS = 1000, 4


def main(leases: str = str(LEASES), hours: str = str(HOURS)) -> None:
    with tempfile.TemporaryDirectory(prefix="leasing-usage-") as scratch:
        state = Path(scratch)
        state.chmod(0o711)
        with running(state / "postgres") as server, TestDatabases(server).migrated() as url:
            measure(url, int(leases), int(hours))


def measure(url: str, leases: int, hours: int) -> float:
    """Seconds for each sealed hour; what was measured is printed."""
    engine = create_engine(url, "usage-benchmark")
    make = sessions(engine)
    clock = Clock(make)
    with make() as session:
        clock.watch(now(session))  # making the past may take longer than a clock may jump
    with make.begin() as session:
        past = Past.make(session, hours_ago=hours)
        admin = user(session, "root", Role.ADMIN)
        for number in range(leases):
            _lease(past, number, hours)
            session.expunge_all()  # each flush looks at all that a session holds
    began = time.perf_counter()
    sealed = stage.run_once(make, clock)
    each = (time.perf_counter() - began) / max(1, sealed)
    with make() as session:
        rows = session.execute(sa.select(sa.func.count()).select_from(UsageHour)).scalar_one()
        print(f"sealed {sealed} hours of {leases} leases, {rows} rows: {each:.2f} s for each")
        for by in (UsageBy.LEASE, UsageBy.DAY):
            took = _timed(lambda by=by: _show(session, admin, by))  # type: ignore[misc]  # bound at once
            print(f"shown by {by}: {took:.2f} s")
    engine.dispose()
    return each


def _lease(past: Past, number: int, hours: int) -> None:
    """It runs all the time, on a device of its own and half of another."""
    parts = {past.device(): 1000, past.device(): 500}
    run = past.run(past.lease(f"lease-{number}", f"user-{number % 50}"), 5, 60 * hours - 5, parts=parts)
    for hour in range(hours):
        past.used(run, hour, A100, 5000, 2500)
        past.used(run, hour, "", 3600, 1800)


def _show(session: Session, admin: Principal, by: UsageBy) -> None:
    moment = now(session)
    wanted = usage.Wanted(periods.period(now=moment, days=7), by, others=True)
    usage.page(session, wanted, principal=admin, now=moment, limit=100)


def _timed(act: Callable[[], None]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


if __name__ == "__main__":
    main(*sys.argv[1:])
