"""The images catalogue."""

from __future__ import annotations

import sqlalchemy as sa
from fastapi import APIRouter, Request

from api.deps import Caller, Unit
from leasing.model import Node
from leasing.schema.cluster import EnvironmentPage

router = APIRouter(tags=["images"])


@router.get("/images", summary="Environments to choose from")
def list_environments(request: Request, unit: Unit, _: Caller) -> EnvironmentPage:
    """`ready` says whether a node has it already; else the first lease of it waits for its build."""
    present = {
        tag
        for facts in unit.execute(sa.select(Node.engine)).scalars()
        for tag in facts.get("environments", ())
    }
    return EnvironmentPage(
        items=[
            one.model_copy(update={"ready": one.reference in present}) for one in request.app.state.catalogue
        ]
    )
