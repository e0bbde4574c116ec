"""How devices are is written down as it changes: dated back to when it began, unknown where nobody looked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.database import now
from leasing.model import Counting, Device, DeviceSpan, DeviceUsage, Node, Reservation, ReservedDevice, Warm
from leasing.service import cluster
from leasing.states import DeviceHealth, NodeIntent
from scheduler.reconcile import conditions
from tests.support.past import Past

STEP = timedelta(seconds=5)


class Watch:
    """A device that is looked at every five seconds from `began` on."""

    def __init__(self, past: Past) -> None:
        self.past = past
        self.session: Session = past.session
        self.began = past.at(60)
        self.device = past.device(since=60, condition=None)
        self.device.sampled_at = self.began
        self.usage = self.session.get_one(DeviceUsage, self.device.id)
        self.far = self.session.execute(sa.select(Counting)).scalar_one()
        self.far.looked_at = self.began - STEP

    def at(self, seconds: float) -> datetime:
        return self.began + timedelta(seconds=seconds)

    def look(self, seconds: float, *, heard: bool = True) -> None:
        """One pass; the sampler has reported just before, unless it is not heard."""
        if heard:
            self.device.sampled_at = self.at(seconds)
        self.session.flush()
        conditions.look(self.session, {self.far.node_id: self.far}, now=self.at(seconds))
        self.session.flush()

    def spans(self) -> list[tuple[str, float, float | None]]:
        """Condition, and its seconds since the watch began."""
        rows = self.session.execute(
            sa.select(DeviceSpan.condition, DeviceSpan.since, DeviceSpan.until)
            .where(DeviceSpan.device_id == self.device.id)
            .order_by(DeviceSpan.since, DeviceSpan.id)
        )
        return [
            (
                condition,
                (since - self.began).total_seconds(),
                (until - self.began).total_seconds() if until else None,
            )
            for condition, since, until in rows
        ]


@pytest.fixture
def watch(session: Session) -> Iterator[Watch]:
    made = Watch(Past.make(session, hours_ago=4))
    made.look(0)
    yield made
    session.rollback()


def test_a_device_that_stays_as_it_is_has_one_span(watch: Watch) -> None:
    for seconds in (5, 10, 15):
        watch.look(seconds)
    assert watch.spans() == [("free", 0, None)]


def test_a_process_that_no_lease_owns_counts_from_when_it_was_seen(watch: Watch) -> None:
    watch.look(5)
    watch.device.foreign_since = watch.at(8)
    watch.look(10)
    watch.device.foreign_since = None
    watch.look(20)
    assert watch.spans() == [("free", 0, 8), ("foreign", 8, 20), ("free", 20, None)]


def test_silence_is_unknown_from_the_last_word_on(watch: Watch) -> None:
    watch.look(10)
    for seconds in range(15, 60, 5):
        watch.look(seconds, heard=False)
    watch.look(60)
    assert watch.spans() == [("free", 0, 10), ("unknown", 10, 60), ("free", 60, None)]


def test_while_the_scheduler_did_not_run_nothing_is_known(watch: Watch) -> None:
    watch.look(10)
    watch.look(10 + 3600)
    watch.look(15 + 3600)
    assert watch.spans() == [("free", 0, 10), ("unknown", 10, 3610), ("free", 3610, None)]


def test_a_short_pause_of_the_scheduler_is_none(watch: Watch) -> None:
    watch.look(10)
    watch.look(100)
    assert watch.spans() == [("free", 0, None)]


def test_nothing_is_written_while_a_clock_is_behind(watch: Watch) -> None:
    watch.look(100)
    watch.device.intent = NodeIntent.CORDONED
    watch.look(40)
    assert watch.spans() == [("free", 0, None)]
    watch.look(105)
    assert watch.spans() == [("free", 0, 105), ("cordoned", 105, None)]


def test_what_a_clock_said_that_was_hours_ahead_is_forgotten_once_it_is_set_back(watch: Watch) -> None:
    watch.look(10)
    watch.look(10 + 8 * 3600)
    watch.device.intent = NodeIntent.CORDONED
    watch.look(20 + 8 * 3600)
    watch.look(40)
    assert watch.spans() == [("free", 0, 10), ("unknown", 10, 40), ("cordoned", 40, None)]
    watch.device.intent = NodeIntent.OPEN
    watch.look(45)
    assert watch.spans()[2:] == [("cordoned", 40, 45), ("free", 45, None)]


def test_cleaning_lasts_from_when_it_was_given_back_until_it_was_proven_clean(watch: Watch) -> None:
    watch.look(5)
    watch.usage.released_at = watch.at(7)
    watch.look(10)
    watch.device.cleared_at = watch.at(13)
    watch.look(15)
    assert watch.spans() == [("free", 0, 7), ("cleaning", 7, 13), ("free", 13, None)]


def cordoned_node(watch: Watch) -> None:
    watch.session.get_one(Node, watch.device.node_id).intent = NodeIntent.DRAINING


def reserved(watch: Watch) -> None:
    lease = watch.past.lease("any")
    booked = Reservation(
        name="later", owner_id=lease.owner_id, project_id=lease.project_id, node_id=watch.device.node_id,
        gpu_count=1, cpus_millis=0, memory_bytes=0, starts_at=watch.at(1), ends_at=watch.at(100),
    )  # fmt: skip
    watch.session.add(booked)
    watch.session.flush()
    held = sa.func.tstzrange(watch.at(1), watch.at(100))
    watch.session.execute(
        sa.insert(ReservedDevice).values(
            reservation_id=booked.id,
            device_id=watch.device.id,
            device_number=watch.device.number,
            during=held,
        )
    )


def warm(watch: Watch) -> None:
    watch.session.add(
        Warm(node_id=watch.device.node_id, role="warm", state="ready", device_id=watch.device.id)
    )


def retired(watch: Watch) -> None:
    watch.device.health = DeviceHealth.RETIRED


def lost(watch: Watch) -> None:
    watch.device.health = DeviceHealth.LOST


def parent(watch: Watch) -> None:
    watch.device.mig_enabled = True


def quarantined(watch: Watch) -> None:
    watch.device.quarantined_since = watch.at(5)


@pytest.mark.parametrize(
    ("happens", "condition"),
    [
        (cordoned_node, "cordoned"), (reserved, "reserved"), (warm, "warm"), (retired, "absent"), (lost, "broken"),
        (parent, "absent"), (quarantined, "quarantined"),
    ],
)  # fmt: skip
def test_whatever_befalls_a_device_is_told_apart(
    watch: Watch, happens: Callable[[Watch], None], condition: str
) -> None:
    happens(watch)
    watch.look(5)
    assert watch.spans() == [("free", 0, 5), (condition, 5, None)]


def test_what_an_admin_decided_holds_though_its_sampler_is_silent(watch: Watch) -> None:
    watch.device.intent = NodeIntent.CORDONED
    watch.look(5)
    watch.look(5 + cluster.STALE.total_seconds() * 2, heard=False)
    assert [condition for condition, *_ in watch.spans()] == ["free", "cordoned"]


def test_a_device_that_was_there_before_anybody_counted_is_known_from_now_on(session: Session) -> None:
    past = Past.make(session, hours_ago=4)
    old = past.device(condition=None)
    far = session.execute(sa.select(Counting)).scalar_one()
    far.looked_at = None
    moment = now(session)
    conditions.look(session, {far.node_id: far}, now=moment)
    assert (
        session.execute(sa.select(DeviceSpan.since).where(DeviceSpan.device_id == old.id)).scalar_one()
        == moment
    )
    assert session.get_one(Device, old.id).created_at < moment
