"""Nodes, devices, what is free, the catalogue and registries."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header

from api.deps import Admin, Caller, Now, Unit
from api.openapi import OPEN, refusals
from leasing.database import now as database_now
from leasing.errors import NotSignedIn
from leasing.schema.cluster import DevicePage, DevicePatch, NodePage, NodePatch, OfferPage
from leasing.schema.report import NodeReport, ReportAccepted
from leasing.service import cluster, handover, labels, lost_nodes, offers, report
from leasing.states import NodeIntent

router = APIRouter(tags=["cluster"])


@router.get("/offers", summary="What is free now, and when the rest frees")
def show_offers(unit: Unit, _: Caller, now: Now) -> OfferPage:
    return offers.offers(unit, now=now)


@router.get("/nodes", summary="The nodes")
def list_nodes(unit: Unit, _: Caller, now: Now) -> NodePage:
    return cluster.nodes(unit, now=now)


@router.patch(
    "/nodes/{name}", summary="Cordon, drain, open, label or give up a node", responses=refusals(409)
)
def change_node(name: str, ask: NodePatch, unit: Unit, caller: Admin, now: Now) -> NodePage:
    if ask.lost:
        lost_nodes.give_up(unit, name, principal=caller, now=database_now(unit))
    if ask.intent is not None:
        cluster.set_node_intent(unit, name, NodeIntent(ask.intent), principal=caller)
    if ask.labels:
        labels.label(unit, name, ask.labels, principal=caller)
    return cluster.nodes(unit, now=now)


@router.post(
    "/nodes/{name}/report",
    summary="What a node's sampler has seen",
    openapi_extra=OPEN,
    responses=refusals(401),
)
def take_report(
    name: str, seen: NodeReport, unit: Unit, authorization: Annotated[str, Header()] = ""
) -> ReportAccepted:
    """With the node's own token, which is good for nothing else."""
    node = cluster.authenticate_node(unit, name, authorization.removeprefix("Bearer "))
    if node is None:
        raise NotSignedIn(
            "That is not this node's token.", hint="Restart the node's sampler with its present token."
        )
    return report.ingest(unit, node, seen, now=database_now(unit))


@router.get("/devices", summary="The devices")
def list_devices(unit: Unit, _: Caller, now: Now) -> DevicePage:
    return cluster.devices(unit, now=now)


@router.patch("/devices/{uuid}", summary="Cordon, open or clear a device")
def change_device(uuid: str, ask: DevicePatch, unit: Unit, caller: Admin, now: Now) -> DevicePage:
    if ask.intent is not None:
        cluster.set_device_intent(unit, uuid, NodeIntent(ask.intent), principal=caller)
    if ask.clear:
        handover.clear(unit, uuid, principal=caller)
    return cluster.devices(unit, now=now)
