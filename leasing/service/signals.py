"""Signals of activity: what each has shown, kept so that any window can be judged without a history."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.orm import Session

from leasing.model import Lease, Run, Signal, SignalKind
from leasing.reading import FRESH, Reading
from leasing.service import policies
from leasing.settings.idle import IdleSettings

MINUTE = timedelta(minutes=1)
NO_GPU, NO_PORT = "it has no GPU", "it has no port"


@dataclass(frozen=True)
class Observation:
    """One reading of one signal."""

    lease_id: UUID
    kind: SignalKind
    value: float


def observe(session: Session, observations: Iterable[Observation], *, now: datetime) -> None:
    """Take readings in; whether one is activity is for its lease's rule to say.

    What cannot be measured is not passed at all, and what is no number is passed over: silence is what makes a signal
    unknown.
    """
    said = [one for one in observations if math.isfinite(one.value) and one.value >= 0]
    limits = thresholds(session, {one.lease_id for one in said}) if said else {}
    taken = [one for one in said if one.lease_id in limits]
    if not taken:
        return
    minute = now.replace(second=0, microsecond=0)
    taken.sort(key=lambda one: (one.lease_id, one.kind))
    # as arrays: a statement with a thousand rows of values takes longer to put together than to run
    rows = (
        sa.func.unnest(
            sa.literal([one.lease_id for one in taken], ARRAY(sa.Uuid())),
            sa.literal([one.kind.value for one in taken], ARRAY(sa.Text())),
            sa.literal([float(one.value) for one in taken], ARRAY(sa.Double())),
            sa.literal([one.value >= limits[one.lease_id][one.kind] for one in taken], ARRAY(sa.Boolean())),
        )
        .table_valued(
            sa.column("lease_id", sa.Uuid()), sa.column("kind", sa.Text()), sa.column("value", sa.Double()),
            sa.column("active", sa.Boolean()),
        )
        .render_derived()
    )  # fmt: skip
    moment = sa.literal(now)
    new = insert(Signal).from_select(
        ["lease_id", "kind", "value", "known_since", "seen_at", "active_at", "minute", "peak"],
        sa.select(
            rows.c.lease_id, rows.c.kind, rows.c.value, moment, moment, sa.case((rows.c.active, moment)),
            sa.literal(minute), rows.c.value,
        ),
    )  # fmt: skip
    # a clock that went back is a gap too: nobody knows how long it really was
    gap = sa.or_(Signal.seen_at < now - FRESH, Signal.seen_at > now + FRESH)
    session.execute(
        new.on_conflict_do_update(
            index_elements=[Signal.lease_id, Signal.kind],
            set_={
                "value": new.excluded.value,
                "known_since": sa.case((gap, new.excluded.known_since), else_=Signal.known_since),
                "seen_at": new.excluded.seen_at,
                "active_at": sa.func.coalesce(new.excluded.active_at, Signal.active_at),
                "minute": new.excluded.minute,
                "peak": sa.case(
                    (Signal.minute == minute, sa.func.greatest(Signal.peak, new.excluded.peak)),
                    else_=new.excluded.peak,
                ),
                "last_peak": sa.case(
                    (Signal.minute == minute, Signal.last_peak),
                    (Signal.minute == minute - MINUTE, Signal.peak),
                    else_=sa.null(),
                ),
            },
        )
    )


def thresholds(session: Session, lease_ids: Collection[UUID]) -> dict[UUID, dict[str, float]]:
    """From where on each signal is activity, by each lease's rule over the platform's settings."""
    platform = IdleSettings().thresholds()
    leases = list(session.execute(sa.select(Lease).where(Lease.id.in_(lease_ids))).scalars())
    rules = policies.effective(session, leases)
    return {lease.id: {**platform, **rules[lease.id].thresholds} for lease in leases}


def of(session: Session, lease_ids: Collection[UUID]) -> dict[UUID, dict[str, Reading]]:
    """What is known of the signals of those leases, by kind."""
    found: dict[UUID, dict[str, Reading]] = defaultdict(dict)
    if lease_ids:
        for signal in session.execute(sa.select(Signal).where(Signal.lease_id.in_(lease_ids))).scalars():
            found[signal.lease_id][signal.kind] = Reading(
                signal.known_since, signal.seen_at, signal.active_at, signal.value
            )
    return found


def inapplicable(lease: Lease, run: Run | None, heard: Collection[str]) -> Mapping[str, str]:
    """The signals that can say nothing of a lease's run, and why: by what it asked for, and by what its machine cannot
    measure, as its first sample showed. Notebook kernels apply from the first answer on that told of them: `heard`
    are the signals that there is any reading of."""
    none: dict[str, str] = dict(run.inapplicable) if run is not None else {}
    if not lease.gpu_count:
        none |= {SignalKind.GPU: NO_GPU, SignalKind.GPU_MEMORY: NO_GPU}
    if lease.port is None:
        none |= {SignalKind.ENDPOINT: NO_PORT, SignalKind.KERNEL: NO_PORT}
    elif SignalKind.KERNEL not in heard:
        none[SignalKind.KERNEL] = "no Jupyter answers at its port"
    return none


def applicable(lease: Lease, run: Run | None, heard: Collection[str]) -> frozenset[str]:
    """The signals that say something of a lease's run."""
    return frozenset(SignalKind) - frozenset(inapplicable(lease, run, heard))
