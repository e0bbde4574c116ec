"""Keeping a lease: for a time, while a command succeeds inside it, and no longer."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta

import pytest
import sqlalchemy as sa

from leasing.access import Action
from leasing.database import now
from leasing.drivers.protocol import Ran
from leasing.errors import Conflict, EngineDown, Gone, Invalid
from leasing.model import Event, Keep, Lease, Signal
from leasing.schema.keep import KeepRequest
from leasing.service import keeps, leases, views
from scheduler.reconcile import keeps as module
from scheduler.reconcile.keeps import Keeps
from scheduler.reconcile.verdicts import Verdicts
from tests.support.activity import quiet
from tests.support.cluster import Cluster
from tests.support.stack import until


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url, devices=1) as made:
        yield made


def ask(cluster: Cluster, lease: Lease, **wanted: str) -> None:
    with cluster.sessions.begin() as session:
        row = leases.find(session, str(lease.id), principal=cluster.ada, action=Action.CHANGE, lock=True)
        keeps.ask(session, row, KeepRequest(**wanted), principal=cluster.ada, now=now(session))


def off(cluster: Cluster, lease: Lease) -> None:
    with cluster.sessions.begin() as session:
        row = leases.find(session, str(lease.id), principal=cluster.ada, action=Action.CHANGE, lock=True)
        keeps.end(session, row, principal=cluster.ada, now=now(session))


def look(cluster: Cluster) -> None:
    """And hear of every answer, however slow the machine is."""
    stage = Keeps(cluster.sessions, cluster.fleet, cluster.installation)
    with pytest.MonkeyPatch.context() as patient:
        patient.setattr(module, "PATIENCE_SECONDS", 30.0)
        stage.run_once()
    stage.close()


def later(cluster: Cluster, seconds: float) -> None:
    """As if all that is known had been heard so much earlier, but for what is measured all the time."""
    by = timedelta(seconds=seconds)
    with cluster.sessions.begin() as session:
        session.execute(
            sa.update(Keep).values(
                checked_at=Keep.checked_at - by, until=Keep.until - by, created_at=Keep.created_at - by
            )
        )
        session.execute(
            sa.update(Signal).where(Signal.kind == "keep").values(
                seen_at=Signal.seen_at - by, active_at=Signal.active_at - by
            )
        )  # fmt: skip


def judged(cluster: Cluster, lease: Lease) -> Lease:
    Verdicts(cluster.sessions).run_once()
    return cluster.lease(lease.id)


def told(cluster: Cluster, kind: str = "lease.keep_ended") -> list[str]:
    with cluster.sessions() as session:
        found = session.execute(
            sa.select(Event.message).where(Event.kind.startswith(kind)).order_by(Event.id)
        )
        return list(found.scalars())


def test_a_command_keeps_while_it_succeeds_and_its_end_is_an_event(cluster: Cluster) -> None:
    lease = cluster.run(gpu="1", idle_timeout="30m")
    asked: list[Sequence[str]] = []
    code = 0

    def ran(_: str, command: Sequence[str]) -> Ran:
        asked.append(command)
        return Ran(exit_code=code, output="nothing found\n")

    cluster.driver.knobs.ran = ran
    quiet(cluster, lease)
    assert judged(cluster, lease).idle_verdict == "idle"
    ask(cluster, lease, command="pgrep -f 'train.py --lr 1'")
    assert cluster.lease(lease.id).idle_since is None, "not taken back from this transaction on"
    look(cluster)
    look(cluster)
    assert asked == [["pgrep", "-f", "train.py --lr 1"]], "no shell that it would find, and not in each pass"
    kept = judged(cluster, lease)
    assert (kept.idle_verdict, kept.idle_reason, kept.idle_since) == ("active", "kept by its owner", None)

    later(cluster, 26)
    code = 1
    look(cluster)
    assert len(asked) == 2
    assert told(cluster) == [
        "it is no longer kept while `pgrep -f 'train.py --lr 1'` succeeds: exit code 1: nothing found"
    ]
    ended = judged(cluster, lease)
    assert (ended.idle_verdict, ended.idle_reason) == ("active", "keep in use less than 30m ago")
    assert ended.idle_since is not None, "from here on it is judged by its other signals"


def test_an_engine_that_is_silent_and_a_command_that_hangs_make_it_unknown(cluster: Cluster) -> None:
    lease = cluster.run(gpu="1", idle_timeout="30m")
    ask(cluster, lease, command="pgrep train")
    look(cluster)

    def down(_: str, __: Sequence[str]) -> Ran:
        raise EngineDown("nothing answers")

    for silent in (down, lambda _, __: Ran(exit_code=None, output="")):
        cluster.driver.knobs.ran = silent
        later(cluster, 60)
        look(cluster)
        quiet(cluster, lease, "cpu disk network gpu gpu_memory terminal")
        with cluster.sessions.begin() as session:  # so that only what is said now counts
            session.execute(sa.update(Signal).where(Signal.kind == "keep").values(active_at=None))
        unknown = judged(cluster, lease)
        assert (unknown.idle_verdict, unknown.idle_since) == ("unknown", None)
        assert "keep" in unknown.idle_reason
    with cluster.sessions() as session:
        out = views.lease_out(
            session, session.get_one(Lease, lease.id), principal=cluster.ada, now=now(session), endpoints=str
        )
        assert out.keep is not None
        assert "longer than 10 seconds" in out.keep.message
    assert told(cluster, "lease.keep_ended") == []


@pytest.mark.parametrize(
    ("code", "output"),
    [
        (137, ""),
        (126, "OCI runtime exec failed: exec failed: fork/exec: resource temporarily unavailable: unknown"),
        (126, "OCI runtime exec failed: write /proc/self/attr: no space left on device: unknown\r\n"),
    ],
)
def test_a_command_that_the_machine_had_no_room_for_ends_no_keep(
    cluster: Cluster, code: int, output: str
) -> None:
    """A lease whose memory, processes or disk are full is not for that idle."""
    lease = cluster.run(name="train")
    ask(cluster, lease, command="pgrep train.py")
    cluster.driver.knobs.ran = lambda _, __: Ran(exit_code=code, output=output)
    look(cluster)
    with cluster.sessions() as session:
        keep = session.execute(sa.select(Keep)).scalar_one()
        assert keep.message.startswith("the command could not be run: ")
    assert told(cluster) == []
    cluster.driver.knobs.ran = lambda _, __: Ran(exit_code=126, output="sh: ./check: Permission denied")
    look(cluster)
    (said,) = told(cluster)
    assert "exit code 126: sh: ./check: Permission denied" in said


def test_a_time_is_over_when_it_is_over_and_off_is_at_once(cluster: Cluster) -> None:
    lease = cluster.run()
    ask(cluster, lease, ttl="3h")
    look(cluster)
    assert judged(cluster, lease).idle_reason == "kept by its owner"
    later(cluster, 3 * 3600)
    look(cluster)
    assert told(cluster) == ["it is no longer kept for 3h: the time is over"]
    ask(cluster, lease, ttl="1h")
    ask(cluster, lease, ttl="2h")
    off(cluster, lease)
    off(cluster, lease)
    assert told(cluster, "lease.kept") == [
        "ada keeps it for 3h",
        "ada keeps it for 1h",
        "ada keeps it for 2h",
    ]
    assert told(cluster)[1:] == ["it is no longer kept for 2h: ada ended it"]


def test_what_cannot_be_kept_is_refused(cluster: Cluster) -> None:
    lease = cluster.run()
    waiting = cluster.ask()
    with pytest.raises(Conflict, match="is queued"):
        ask(cluster, waiting, ttl="1h")
    for wrong in ({"ttl": "soon"}, {"command": "pgrep 'train"}, {"command": "  "}):
        with pytest.raises(Invalid):
            ask(cluster, lease, **wrong)
    with cluster.sessions.begin() as session:
        row = leases.find(session, lease.name, principal=cluster.ada, action=Action.CHANGE, lock=True)
        leases.release(session, row, principal=cluster.ada, now=now(session))
    cluster.work()
    with pytest.raises(Gone):
        ask(cluster, lease, ttl="1h")
    assert told(cluster) == []


def test_a_keep_goes_with_its_lease(cluster: Cluster) -> None:
    lease = cluster.run()
    ask(cluster, lease, command="test -e /tmp/busy && true")
    with cluster.sessions.begin() as session:
        assert session.get_one(Keep, lease.id).command == ["/bin/sh", "-c", "test -e /tmp/busy && true"]
        row = leases.find(session, lease.name, principal=cluster.ada, action=Action.CHANGE, lock=True)
        leases.release(session, row, principal=cluster.ada, now=now(session))
    cluster.work()
    look(cluster)
    with cluster.sessions() as session:
        assert session.get(Keep, lease.id) is None


def test_a_command_that_hangs_holds_up_nobody_else(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.05)
    hanging, other = cluster.run(), cluster.run()
    ask(cluster, hanging, command="wait for it")
    released = threading.Event()

    def ran(_: str, __: Sequence[str]) -> Ran:
        assert released.wait(10)
        return Ran(exit_code=0, output="")

    cluster.driver.knobs.ran = ran
    stage = Keeps(cluster.sessions, cluster.fleet, cluster.installation)
    stage.run_once()

    def seen(lease: Lease) -> Signal | None:
        with cluster.sessions() as session:
            return session.get(Signal, (lease.id, "keep"))

    asked = seen(hanging)
    assert asked is not None
    assert (seen(other) or asked).value == 0
    released.set()

    def answered() -> bool:
        stage.run_once()
        said = seen(hanging)
        return said is not None and said.seen_at > asked.seen_at

    until(answered, what="its answer")
    stage.close()
