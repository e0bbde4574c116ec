"""Where devices' time went and what leases had of it, as Prometheus counts it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import sqlalchemy as sa
from prometheus_client.core import Metric
from sqlalchemy.orm import Session

from leasing.accounting import DeviceClass
from leasing.model import Device, DeviceTotal, Lease, Node, Run, RunSample
from leasing.service.counting import COLUMN, NANO
from leasing.states import LeaseState
from monitoring import metrics

# As hours of use are counted: while a container runs, and what it has of each device then.
HAD = sa.text("""
    SELECT run.lease_id, sum(allocation.share / 1000.0 * extract(epoch FROM greatest(interval '0',
        least(coalesce(run_span.until, now()), coalesce(allocation.released_at, now()))
            - greatest(run_span.since, allocation.created_at))))
    FROM lease
    JOIN run ON run.lease_id = lease.id
    JOIN run_span ON run_span.run_id = run.id
    JOIN allocation ON allocation.run_id = run.id
    WHERE lease.state <> :ended GROUP BY run.lease_id
""")


def collect(session: Session) -> Iterable[Metric]:
    """Device-seconds by class, of sealed hours, and those of each live lease."""
    yield _classes(session)
    yield _leases(session)


def _classes(session: Session) -> Metric:
    family = metrics.DEVICE_SECONDS.new()
    for uuid, node, counted in session.execute(
        sa.select(Device.uuid, Node.name, DeviceTotal)
        .outerjoin(DeviceTotal, DeviceTotal.device_id == Device.id)
        .join(Node, Node.id == Device.node_id)
        .order_by(Node.name, Device.uuid)
    ):
        total = cast("DeviceTotal | None", counted)  # of an outer join
        for one in DeviceClass:
            # 0 before a device's first hour is sealed: then the first is not missed as a start
            family.add_metric([uuid, node, one], 0.0 if total is None else getattr(total, COLUMN[one]) / NANO)
    return family


def _leases(session: Session) -> Metric:
    family = metrics.LEASE_GPU_SECONDS.new()
    for lease_id, seconds in session.execute(HAD, {"ended": LeaseState.ENDED.value}):
        family.add_metric([str(lease_id), "allocated"], float(seconds))
    for lease_id, used in session.execute(
        sa.select(Run.lease_id, sa.func.sum(RunSample.gpu_used_seconds_total))
        .join(RunSample, RunSample.run_id == Run.id)
        .join(Lease, Lease.id == Run.lease_id)
        .where(Lease.state != LeaseState.ENDED, RunSample.gpu_used_seconds_total.is_not(None))
        .group_by(Run.lease_id)
    ):
        family.add_metric([str(lease_id), "used"], float(used or 0))
    return family
