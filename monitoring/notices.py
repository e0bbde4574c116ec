"""What people were warned of and what was taken back, and which warnings still wait, as Prometheus counts it."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from prometheus_client.core import Metric
from sqlalchemy.orm import Session

from leasing.model import Event, Notice
from leasing.states import EndReason
from monitoring import metrics

RECLAIMS = (EndReason.EXPIRED, EndReason.IDLE, EndReason.PREEMPTED, EndReason.DRAINED)
OUTCOME = sa.case(
    (Notice.voided_at.is_not(None), "void"),
    (Notice.given_up_at.is_not(None), "given_up"),
    (Notice.delivered_at.is_not(None), "delivered"),
    else_="waiting",
)


def collect(session: Session) -> Iterable[Metric]:
    """Warnings by kind, channel and outcome, the outbox, and what was taken back."""
    told, waiting = metrics.NOTICES.new(), 0
    counted = sa.select(Notice.kind, Notice.channel, OUTCOME, sa.func.count())
    for kind, channel, outcome, count in session.execute(
        counted.group_by(Notice.kind, Notice.channel, OUTCOME)
    ):
        if outcome == "waiting":
            waiting += count
        else:
            told.add_metric([kind, channel, outcome], count)
    yield told
    depth, age = metrics.OUTBOX_DEPTH.new(), metrics.OUTBOX_AGE.new()
    depth.add_metric([], waiting)
    oldest = sa.func.coalesce(sa.func.extract("epoch", sa.func.now() - sa.func.min(Notice.created_at)), 0)
    undone = (Notice.delivered_at.is_(None), Notice.given_up_at.is_(None), Notice.voided_at.is_(None))
    age.add_metric([], max(0.0, float(session.execute(sa.select(oldest).where(*undone)).scalar_one())))
    yield depth
    yield age
    yield _reclaims(session)


def _reclaims(session: Session) -> Metric:
    """Whoever takes a lease back says so in its event: it may be suspended, and then has no reason of an end."""
    why = Event.data["reclaimed"].astext
    statement = sa.select(why, sa.func.count()).where(Event.data.has_key("reclaimed")).group_by(why)
    taken: dict[str, int] = dict(session.execute(statement).all())
    family = metrics.RECLAIMS.new()
    for reason in RECLAIMS:
        family.add_metric([reason], taken.get(reason, 0))
    return family
