"""Nodes, devices, environments and what is free, on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field, model_validator

from leasing.schema.base import Request, Wire
from leasing.schema.lease import Label, LabelValue


class NodeOut(Wire):
    """A node: what it has, what is placed on it (CPUs in cores), and what its parts last said."""

    id: UUID
    name: str
    driver: str
    address: str
    health: str
    health_reason: str
    intent: str
    labels: dict[str, str] = Field(default_factory=dict)
    cpus: float
    cpus_used: float
    memory_bytes: int
    memory_used_bytes: int
    devices: int
    devices_free: int
    leases: int = 0
    """That have their container or their files there."""
    workspaces: int = 0
    """With files there."""
    engine_version: str | None
    disk_quota: str | None
    """By what means a workspace's quota is enforced there: `engine`, `loop`; None: it is only watched."""
    gpu: str
    """The NVIDIA driver's version, or why there is none."""
    engine_seen_at: datetime | None
    sampler_seen_at: datetime | None


class NodePage(Wire):
    items: list[NodeOut]


class NodePatch(Request):
    """Only what is given changes: whether it is lost, its intent, and single labels."""

    intent: str | None = Field(
        None,
        pattern="^(open|cordoned|draining)$",
        description="cordoned: nothing new is placed there; draining: and leases there are suspended.",
    )
    lost: Literal[True] | None = None
    """It does not come back: its leases end as lost, and it is cordoned. Refused while it answers."""
    labels: dict[Label, LabelValue | None] = Field(
        default_factory=dict, max_length=64, description="Set to a value, or taken away by null."
    )

    @model_validator(mode="after")
    def _something(self) -> NodePatch:
        if self.intent is None and self.lost is None and not self.labels:
            raise ValueError("give intent, lost or labels")
        return self


class DeviceStateOut(Wire):
    """A device and what may be done with it. Ratios are 0 to 1; None is "cannot be measured"."""

    uuid: str
    node: str
    index: int
    model: str
    memory_bytes: int
    state: str
    """free, leased, foreign, cleaning (after a lease), quarantined (not clean after one, or at fault), out (cordoned,
    faulty, lost) or unknown."""
    state_reason: str
    lease: str | None
    owner: str | None
    utilization_ratio: float | None
    memory_used_bytes: int | None
    power_watts: float | None
    temperature_celsius: float | None
    sampled_at: datetime | None
    intent: str


class DevicePage(Wire):
    items: list[DeviceStateOut]


class DevicePatch(Request):
    """One of the two, or both."""

    intent: str | None = Field(None, pattern="^(open|cordoned)$")
    clear: Literal[True] | None = None
    """Take its faults and the memory it uses now for what is usual, and judge it anew."""

    @model_validator(mode="after")
    def _something(self) -> DevicePatch:
        if self.intent is None and self.clear is None:
            raise ValueError("give intent or clear")
        return self


class PartOut(Wire):
    """What is free of a device that is leased in part; `share` is in thousandths."""

    model: str
    share: int
    memory_bytes: int


class FreeingOut(Wire):
    """Whole devices that come free on a node when the leases on them end, at the latest."""

    at: datetime
    model: str
    count: int


class OfferOut(Wire):
    """What is free on one node now, and when the rest frees."""

    node: str
    labels: dict[str, str] = Field(default_factory=dict)
    """A lease may ask for them."""
    cpus_free: float
    cpus: float
    memory_free_bytes: int
    memory_bytes: int
    devices_free: dict[str, int]
    """Model → whole devices free."""
    devices_total: dict[str, int]
    parts_free: list[PartOut] = Field(default_factory=list)
    """Of devices that others have a part of, the largest first."""
    frees: list[FreeingOut] = Field(default_factory=list)
    """By the deadlines of who holds them, the soonest first: the next five moments of each model."""


class OfferPage(Wire):
    items: list[OfferOut]
    queue_depth: int


class EnvironmentOut(Wire):
    """An entry of the images catalogue."""

    name: str
    title: str
    description: str
    reference: str
    ready: bool
    """Present on the node: a lease of it starts without a build."""
    port: int | None
    inside: bool = False
    """What listens there is a way into the lease, as a notebook is."""


class EnvironmentPage(Wire):
    items: list[EnvironmentOut]


class RegistryIn(Request):
    host: str = Field(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9][A-Za-z0-9.:-]*$")
    username: str = Field(min_length=1, max_length=255)
    secret: str = Field(min_length=1, max_length=16_384, repr=False)


class RegistryOut(Wire):
    host: str
    username: str
    created_at: datetime


class RegistryPage(Wire):
    items: list[RegistryOut]
