"""Is it up, is it ready, and what does it measure? For machines."""

from __future__ import annotations

import hmac
from datetime import timedelta

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Request
from fastapi.responses import PlainTextResponse, Response

from api.deps import Core, Unit, secret_of, signed_in
from api.openapi import OPEN
from leasing.database import now
from leasing.errors import NotAllowed, Unavailable
from leasing.model import Node, NodeUsage
from leasing.service import parts

router = APIRouter(tags=["health"])
SCHEDULER_WITHIN = timedelta(seconds=15)


@router.get("/healthz", summary="The process is up", openapi_extra=OPEN)
def healthz() -> dict[str, str]:
    return {"status": "up"}


@router.get("/readyz", summary="Leases can be asked for and will be served", openapi_extra=OPEN)
def readyz(unit: Unit) -> dict[str, str]:
    """Raises `Unavailable` naming what is missing."""
    from leasing.migrating import at, schema_head  # noqa: PLC0415 - Alembic takes long to load

    found, needed = at(unit.connection()), schema_head()
    if found != (needed,):
        raise Unavailable(
            f"The database is at {', '.join(found) or 'no'} schema; this version needs {needed}."
        )
    if not parts.alive(unit, "scheduler", within=SCHEDULER_WITHIN, now=now(unit)):
        raise Unavailable(f"No scheduler was heard for {SCHEDULER_WITHIN.seconds} s: leases would wait.")
    if not unit.execute(sa.select(sa.exists().where(NodeUsage.cpus_millis > 0))).scalar_one():
        raise Unavailable("No node has reported what it has yet: nothing could be placed.")
    return {"status": "ready"}


def may_watch(request: Request, unit: Unit, core: Core) -> None:
    """Prometheus' own token, or an admin's. Raises `NotSignedIn`, `NotAllowed`."""
    kept = core.metrics_token_file()
    if kept.exists() and hmac.compare_digest(kept.read_bytes().strip(), secret_of(request).encode()):
        return
    if not signed_in(request, unit).principal.admin:
        raise NotAllowed("Metrics are for admins and for the metrics token.")


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    dependencies=[Depends(may_watch)],
    response_class=PlainTextResponse,
)
def metrics(request: Request, unit: Unit) -> Response:
    render = request.app.state.metrics
    return PlainTextResponse(render(unit), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/prometheus/targets", summary="Node samplers, for http_sd", dependencies=[Depends(may_watch)])
def targets(unit: Unit) -> list[dict[str, object]]:
    rows = unit.execute(sa.select(Node.name, Node.sampler).order_by(Node.name))
    return [
        {"targets": [facts["metrics_address"]], "labels": {"node": name}}
        for name, facts in rows
        if facts.get("metrics_address")
    ]
