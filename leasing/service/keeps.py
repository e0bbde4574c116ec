"""Keeping a lease although it looks idle: until a moment, or while a command succeeds inside it."""

from __future__ import annotations

import re
import shlex
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from leasing.errors import Conflict, Gone, Invalid
from leasing.model import Event, Keep, Lease, SignalKind
from leasing.schema.keep import KeepOut, KeepRequest
from leasing.service import events, signals
from leasing.service.principal import Principal
from leasing.service.signals import Observation
from leasing.states import LeaseState, Verdict
from leasing.units import format_duration, parse_duration

SHELL = re.compile(r"[|&;<>()$`*?~#{}\[\]\n\\]")
"""What only a shell understands."""
KEPT, ENDED = "lease.kept", "lease.keep_ended"
"""Kinds of events."""


def ask(session: Session, lease: Lease, wanted: KeepRequest, *, principal: Principal, now: datetime) -> Keep:
    """Keep it from now on; another keep of it is replaced. The caller holds the row's lock.

    Raises `Gone` once it has ended, `Conflict` unless it runs, `Invalid` for a command or time that makes no sense.
    """
    if lease.state == LeaseState.ENDED:
        raise Gone(f"Lease {lease.name!r} has ended.", hint="Get another one: lease up")
    if lease.state != LeaseState.RUNNING:
        raise Conflict(
            f"Lease {lease.name!r} is {lease.state}: only what runs can look idle.",
            hint=f"Wait until it runs: lease why {lease.name}",
        )
    until = now + timedelta(seconds=parse_duration(wanted.ttl)) if wanted.ttl else None
    values = {
        "lease_id": lease.id,
        "command": _command(wanted.command) if wanted.command else None,
        "until": until,
        "asked_by": principal.actor,
        "created_at": now,
        "checked_at": None,
        "exit_code": None,
        "message": "",
    }
    keep = session.execute(
        insert(Keep)
        .values(values)
        .on_conflict_do_update(index_elements=[Keep.lease_id], set_=values)
        .returning(Keep)
        .execution_options(populate_existing=True)
    ).scalar_one()
    events.record(
        session, KEPT, f"{principal.name} keeps it {words(keep)}", actor=principal.actor, lease_id=lease.id
    )  # fmt: skip
    # what is about to be taken back is not, from this transaction on
    signals.observe(session, [Observation(lease.id, SignalKind.KEEP, 1.0)], now=now)
    lease.idle_verdict, lease.idle_reason, lease.idle_since = Verdict.ACTIVE, "kept by its owner", None
    session.flush()
    return keep


def end(session: Session, lease: Lease, *, principal: Principal, now: datetime) -> None:
    """Keep it no longer. Idempotent. The caller holds the row's lock."""
    keep = session.get(Keep, lease.id)
    if keep is None:
        return
    drop(session, keep, f"{principal.name} ended it", actor=principal.actor, now=now)


def drop(session: Session, keep: Keep, why: str, *, actor: str, now: datetime) -> None:
    """The keep is over, and `why`: a sentence's end. From now on the lease is judged by its other signals."""
    session.delete(keep)
    events.record(
        session, ENDED, f"it is no longer kept {words(keep)}: {why}", actor=actor, lease_id=keep.lease_id,
        data={"exit_code": keep.exit_code},
    )  # fmt: skip
    signals.observe(session, [Observation(keep.lease_id, SignalKind.KEEP, 0.0)], now=now)


def of(session: Session, lease: Lease) -> KeepOut | None:
    """How it is kept; None while it is not."""
    keep = session.execute(sa.select(Keep).where(Keep.lease_id == lease.id)).scalar_one_or_none()
    if keep is None:
        return None
    return KeepOut(
        command=text(keep),
        until=keep.until,
        asked_by=keep.asked_by,
        created_at=keep.created_at,
        checked_at=keep.checked_at,
        exit_code=keep.exit_code,
        message=keep.message,
    )


def last_end(session: Session, lease: Lease) -> Event | None:
    """How its last keep ended; None while it is kept, and where it never was."""
    last = session.execute(
        sa.select(Event)
        .where(Event.lease_id == lease.id, Event.kind.in_((KEPT, ENDED)))
        .order_by(Event.id.desc())
        .limit(1)
    ).scalar_one_or_none()
    return last if last is not None and last.kind == ENDED else None


def words(keep: Keep) -> str:
    """How it is kept, in words that follow `kept`."""
    parts = [f"while `{text(keep)}` succeeds"] if keep.command else []
    if keep.until is not None:
        parts.append(f"for {format_duration((keep.until - keep.created_at).total_seconds())}")
    return ", ".join(parts)


def text(keep: Keep) -> str | None:
    """Its command as a person would write it."""
    if keep.command is None:
        return None
    return keep.command[2] if keep.command[:2] == ["/bin/sh", "-c"] else shlex.join(keep.command)


def _command(text: str) -> list[str]:
    """Without a shell where none is needed: one whose own words are those of the command would be found by `pgrep -f`,
    and keep the lease by itself."""
    if SHELL.search(text):
        return ["/bin/sh", "-c", text]
    try:
        parts = shlex.split(text)
    except ValueError as error:
        raise Invalid(
            f"The command cannot be read: {error}.", hint="For example: --while 'pgrep train'"
        ) from None
    if not parts:
        raise Invalid("The command is empty.", hint="For example: --while 'pgrep train'")
    return parts
