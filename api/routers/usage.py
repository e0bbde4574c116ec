"""Usage: what was allocated against what was used, where devices' time went, prices."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query
from fastapi.responses import Response
from pydantic import AwareDatetime

from api import sheets
from api.deps import Admin, Caller, Now, Unit
from leasing.schema.usage import (
    DeviceBy,
    DeviceUsagePage,
    DeviceUsageRow,
    PriceIn,
    PriceModel,
    PriceOut,
    PricePage,
    UsageBy,
    UsagePage,
    UsageRow,
)
from leasing.service import capacity, periods, prices, usage
from leasing.service.periods import Period

router = APIRouter(tags=["usage"])
CSV = "text/csv"
SHEET: dict[int | str, dict[str, Any]] = {200: {"content": {CSV: {"schema": {"type": "string"}}}}}
Name = Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$")]
Limit = Annotated[int, Query(ge=1, le=usage.MAX_PAGE)]
Cursor = Annotated[str | None, Query(max_length=500)]


async def period(
    now: Now,
    days: Annotated[
        int | None, Query(ge=1, le=periods.MOST_DAYS, description="The last so many days.")
    ] = None,
    month: Annotated[str | None, Query(max_length=7, description="Like 2026-11, in `zone`.")] = None,
    since: Annotated[AwareDatetime | None, Query(alias="from")] = None,
    until: Annotated[AwareDatetime | None, Query(alias="to", description="Absent: now.")] = None,
    zone: Annotated[
        str, Query(max_length=100, description="Of months and days, like Europe/Berlin.")
    ] = "UTC",
) -> Period:
    """Absent: the last seven days."""
    return periods.period(now=now, days=days, month=month, since=since, until=until, zone=zone)


Asked = Annotated[Period, Depends(period)]


async def as_sheet(
    format_: Annotated[Literal["json", "csv"] | None, Query(alias="format")] = None,
    accept: Annotated[str, Header()] = "",
) -> bool:
    """Whether a table is wanted, and not JSON."""
    return format_ == "csv" or (format_ is None and accept.split(",")[0].split(";")[0].strip() == CSV)


Sheet = Annotated[bool, Depends(as_sheet)]


@router.get(
    "/usage", summary="What was allocated, and what of it was used", response_model=UsagePage, responses=SHEET
)
def show_usage(
    unit: Unit,
    caller: Caller,
    now: Now,
    asked: Asked,
    sheet: Sheet,
    by: UsageBy = UsageBy.LEASE,
    everyone: Annotated[bool, Query(description="Of your projects, if you own any; admins: of all.")] = False,
    user: Name = None,
    project: Name = None,
    lease: Name = None,
    model: Name = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> UsagePage | Response:
    """Yours; with `everyone`, `user` or `project` also what others used, as far as you may see it.

    With `format=csv` or `Accept: text/csv` all of it is one table.
    """
    wanted = usage.Wanted(asked, by, everyone, user, project, lease, model)
    most = usage.ALL if sheet else limit
    found = usage.page(unit, wanted, principal=caller, now=now, cursor=cursor, limit=most)
    if not sheet:
        return found
    return sheets.response([*UsageRow.model_fields], found.items, f"usage-by-{by}.csv")


@router.get(
    "/usage/devices", summary="Where devices' time went", response_model=DeviceUsagePage, responses=SHEET
)
def show_device_usage(
    unit: Unit,
    _: Admin,
    now: Now,
    asked: Asked,
    sheet: Sheet,
    by: DeviceBy = DeviceBy.DAY,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> DeviceUsagePage | Response:
    """Every device-second is in exactly one class, and they sum to capacity."""
    found = capacity.page(unit, asked, by, now=now, cursor=cursor, limit=usage.ALL if sheet else limit)
    if not sheet:
        return found
    return sheets.response([*DeviceUsageRow.model_fields], found.items, f"devices-by-{by}.csv")


@router.get("/prices", summary="What an hour of a device costs")
def list_prices(unit: Unit, _: Caller) -> PricePage:
    return prices.page(unit)


@router.put("/prices/{model}", summary="Set a price")
def set_price(model: PriceModel, ask: PriceIn, unit: Unit, caller: Admin) -> PriceOut:
    """For every device whose model has that as a part of its name."""
    return prices.put(unit, model, ask, principal=caller)


@router.delete("/prices/{model}", status_code=204, summary="Remove a price")
def remove_price(model: str, unit: Unit, caller: Admin) -> None:
    prices.remove(unit, model, principal=caller)
