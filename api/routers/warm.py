"""What is kept ready on nodes before anybody asks."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from api.deps import Admin, Limits, Unit
from leasing.schema.warm import WarmPage, WarmPoolIn, WarmPoolOut
from leasing.service import warm

router = APIRouter(prefix="/warm", tags=["warm"])


@router.get("", summary="What is kept ready, and what is wanted to be")
def list_warm(unit: Unit, _: Admin) -> WarmPage:
    """Network sandboxes, which any start joins, and containers that wait, which leases that fit are handed; for
    admins."""
    return warm.page(unit)


@router.put("/pools", summary="Keep containers of an environment warm")
def set_warm(ask: WarmPoolIn, unit: Unit, caller: Admin, limits: Limits) -> WarmPoolOut:
    """So many on each open node, or on one, of one size. What was said before of the same image, node and model no
    longer counts."""
    return warm.put(unit, ask, principal=caller, limits=limits)


@router.delete("/pools", status_code=204, summary="Keep containers of an environment warm no more")
def remove_warm(
    unit: Unit,
    caller: Admin,
    image: Annotated[str, Query(max_length=300)],
    node: Annotated[str | None, Query(max_length=100)] = None,
    gpu: Annotated[str | None, Query(max_length=60)] = None,
) -> None:
    """What waits goes; what leases have stays theirs."""
    warm.remove(unit, image, node, gpu, principal=caller)
