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
    Workspace,
)
from leasing.model.people import RegistryCredential, Token, TokenKind, User
from leasing.model.project import Member, Project, Quota
from leasing.model.record import Event, RunSample, Signal, SignalKind, Traffic
from leasing.model.reservation import Reservation, ReservedDevice

__all__ = [
    "Allocation",
    "AllocationSample",
    "Base",
    "Device",
    "DeviceUsage",
    "Event",
    "Forecast",
    "IdempotencyKey",
    "Installation",
    "Lease",
    "Member",
    "Node",
    "NodeUsage",
    "Part",
    "Project",
    "Quota",
    "RegistryCredential",
    "Reservation",
    "ReservedDevice",
    "Run",
    "RunSample",
    "Signal",
    "SignalKind",
    "Token",
    "TokenKind",
    "Traffic",
    "User",
    "Workspace",
]
