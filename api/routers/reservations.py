"""Reservations: the calendar, book, cancel."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from api.deps import Caller, Limits, Now, Unit
from api.openapi import refusals
from leasing.schema.reservation import ReservationOut, ReservationPage, ReservationRequest
from leasing.service import bookings, reservations

router = APIRouter(tags=["reservations"])


@router.get("/reservations", summary="The calendar: what is reserved, and until when leases have devices")
def list_reservations(
    unit: Unit,
    _: Caller,
    now: Now,
    starts_at: Annotated[AwareDatetime | None, Query(alias="from", description="Absent: now.")] = None,
    ends_at: Annotated[AwareDatetime | None, Query(alias="to", description="Absent: a week later.")] = None,
) -> ReservationPage:
    """Everybody sees all of it."""
    return bookings.page(unit, now=now, starts_at=starts_at, ends_at=ends_at)


@router.post(
    "/reservations", status_code=201, summary="Reserve devices for a range of time", responses=refusals(409)
)
def book_reservation(
    ask: ReservationRequest, unit: Unit, caller: Caller, now: Now, limits: Limits
) -> ReservationOut:
    """Whole devices of one node that nobody else has for any part of it; a refusal says when it would work."""
    made = reservations.book(unit, ask, principal=caller, limits=limits, now=now)
    return bookings.out(unit, made)


@router.get("/reservations/{ref}", summary="One reservation, by id or name")
def show_reservation(ref: str, unit: Unit, _: Caller) -> ReservationOut:
    return bookings.out(unit, reservations.find(unit, ref))


@router.delete("/reservations/{ref}", summary="Cancel a reservation")
def cancel_reservation(ref: str, unit: Unit, caller: Caller) -> ReservationOut:
    """Idempotent. Leases under it go on to their own deadlines."""
    found = reservations.find(unit, ref, lock=True)
    reservations.cancel(unit, found, principal=caller)
    return bookings.out(unit, found)
