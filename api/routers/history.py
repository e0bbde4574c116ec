"""What was asked for lately, to be played again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from api.deps import Admin, Now, Unit
from leasing.schema.activity import ActivityPage
from leasing.schema.history import HistoryPage
from leasing.service import history, replaying

router = APIRouter(tags=["cluster"])


@router.get("/history", summary="What was asked for lately, and what became of it")
def show_history(
    unit: Unit,
    _: Admin,
    now: Now,
    days: Annotated[int, Query(ge=1, le=3660)] = 30,
    cursor: Annotated[str | None, Query(max_length=40)] = None,
    limit: Annotated[int, Query(ge=1, le=history.MAX_PAGE)] = 500,
) -> HistoryPage:
    """For admins. Enough to try another policy on it, without commands, environment variables, output or files."""
    return history.page(unit, days=days, cursor=cursor, limit=limit, now=now)


@router.get("/activity", summary="What leases did by the minute")
def show_activity(
    unit: Unit,
    _: Admin,
    now: Now,
    days: Annotated[int, Query(ge=1, le=366)] = 7,
    project: Annotated[str | None, Query(max_length=40)] = None,
    cursor: Annotated[str | None, Query(max_length=40)] = None,
    limit: Annotated[int, Query(ge=1, le=replaying.MAX_PAGE)] = 20,
) -> ActivityPage:
    """For admins: the highest value of each signal in each minute, enough to try another policy on it."""
    return replaying.page(unit, days=days, project=project, cursor=cursor, limit=limit, now=now)
