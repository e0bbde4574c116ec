"""The rows. PostgreSQL is the only coordinator: what is not here is not true."""

from __future__ import annotations

from leasing.model.base import Base
from leasing.model.cluster import Device, DeviceUsage, Installation, Node, NodeUsage, Part
from leasing.model.lease import (
    Allocation,
    AllocationSample,
    Forecast,
    IdempotencyKey,
    Lease,
    Run,
)
from leasing.model.people import RegistryCredential, Token, TokenKind, User
from leasing.model.project import Member, Project, Quota
from leasing.model.reclaim import Activity, Contact, Keep, LearnedWindow, Notice, Policy
from leasing.model.record import CallTime, Event, RunSample, Signal, SignalKind, Traffic
from leasing.model.reservation import Reservation, ReservedDevice
from leasing.model.usage import (
    Counting,
    DeviceHour,
    DeviceSpan,
    DeviceTotal,
    Price,
    RunSpan,
    RunUse,
    UsageHour,
)
from leasing.model.warm import Warm, WarmPool
from leasing.model.workspace import Workspace, WorkspaceExport

__all__ = [
    "Activity",
    "Allocation",
    "AllocationSample",
    "Base",
    "CallTime",
    "Contact",
    "Counting",
    "Device",
    "DeviceHour",
    "DeviceSpan",
    "DeviceTotal",
    "DeviceUsage",
    "Event",
    "Forecast",
    "IdempotencyKey",
    "Installation",
    "Keep",
    "LearnedWindow",
    "Lease",
    "Member",
    "Node",
    "NodeUsage",
    "Notice",
    "Part",
    "Policy",
    "Price",
    "Project",
    "Quota",
    "RegistryCredential",
    "Reservation",
    "ReservedDevice",
    "Run",
    "RunSample",
    "RunSpan",
    "RunUse",
    "Signal",
    "SignalKind",
    "Token",
    "TokenKind",
    "Traffic",
    "UsageHour",
    "User",
    "Warm",
    "WarmPool",
    "Workspace",
    "WorkspaceExport",
]
