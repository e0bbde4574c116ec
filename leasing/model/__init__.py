"""The rows. PostgreSQL is the only coordinator: what is not here is not true."""

from __future__ import annotations

from leasing.model.base import Base
from leasing.model.cluster import Device, DeviceUsage, Installation, Node, NodeUsage, Part
from leasing.model.lease import Allocation, IdempotencyKey, Lease, Run, Workspace
from leasing.model.people import RegistryCredential, Token, TokenKind, User
from leasing.model.record import Event, RunSample, Signal, SignalKind, Traffic

__all__ = [
    "Allocation",
    "Base",
    "Device",
    "DeviceUsage",
    "Event",
    "IdempotencyKey",
    "Installation",
    "Lease",
    "Node",
    "NodeUsage",
    "Part",
    "RegistryCredential",
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
