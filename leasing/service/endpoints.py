"""What a lease's endpoint is told besides its port: checked, stored, changed while the lease runs."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from leasing.errors import Gone, Invalid
from leasing.model import Lease
from leasing.schema.endpoint import EndpointOptions, EndpointRequest
from leasing.service import events
from leasing.service.principal import Principal
from leasing.states import Goal, LeaseState
from leasing.units import format_duration, parse_duration, parse_size

OFF = "off"
LONGEST_CACHE_SECONDS = 86400
LEAST_RATE = 0.01
"""Calls a second; slower is a switch, not a limit."""


def stored(
    ask: EndpointRequest | None, port: int | None, present: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The lease row's `endpoint` for an ask on top of what is there. Raises `Invalid`, naming the limit."""
    found = EndpointOptions.model_validate(present or {})
    if ask is None:
        return found.model_dump(exclude_defaults=True)
    if port is None:
        raise Invalid(
            "The lease has no endpoint: it was asked for without a port.",
            hint="Ask with the port that the application listens on: lease up --port 8000",
        )
    changes: dict[str, Any] = {}
    if ask.cache is not None:
        changes["cache_seconds"] = _cache(ask.cache)
    if ask.wake is not None:
        changes["wake"] = ask.wake
    if ask.inside is not None:
        changes["inside"] = ask.inside
    if ask.rate is not None:
        changes["rate"] = _rate(ask.rate)
    if ask.burst is not None:
        changes["burst"] = ask.burst or None
    if ask.max_body is not None:
        changes["body_max_bytes"] = None if ask.max_body == OFF else parse_size(ask.max_body)
    if ask.timeout is not None:
        changes["timeout_seconds"] = None if ask.timeout == OFF else parse_duration(ask.timeout)
    chosen = found.model_copy(update=changes)
    if chosen.burst is not None and chosen.rate is None:
        raise Invalid("A burst is what a rate allows at once: there is no rate.", hint="Add --rate 100.")
    return chosen.model_dump(exclude_defaults=True)


def change(session: Session, lease: Lease, ask: EndpointRequest, *, principal: Principal) -> None:
    """Set options of a lease that lives. The caller holds the row's lock. Raises `Gone` once it ends, `Invalid`."""
    if lease.state == LeaseState.ENDED or lease.goal == Goal.ENDED:
        raise Gone(
            f"Lease {lease.name!r} is {lease.state}: {lease.message or 'it is over'}.",
            hint=f"Start anew: lease up {lease.name}",
        )
    chosen = stored(ask, lease.port, lease.endpoint)
    if chosen == lease.endpoint:
        return
    lease.endpoint = chosen
    said = f"{principal.name} set its endpoint: {EndpointOptions.model_validate(chosen).said or 'no limits, no cache'}"
    events.record(session, "lease.endpoint", said, actor=principal.actor, lease_id=lease.id, data=chosen)


def _cache(text: str) -> int | None:
    if text == OFF:
        return None
    seconds = parse_duration(text)
    if seconds > LONGEST_CACHE_SECONDS:
        raise Invalid(
            f"{text!r} is too long: answers are kept for {format_duration(LONGEST_CACHE_SECONDS)} at most.",
            hint="Write it like 60s or 1h, or off.",
        )
    return seconds


def _rate(rate: float) -> float | None:
    if 0 < rate < LEAST_RATE:
        raise Invalid(
            f"{rate:g} calls a second is too few: the least is {LEAST_RATE:g}.", hint="0 is no limit at all."
        )
    return rate or None
