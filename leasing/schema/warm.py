"""What is kept ready on nodes before anybody asks, on the wire."""

from __future__ import annotations

from pydantic import Field

from leasing.schema.base import Request, Wire


class WarmPoolIn(Request):
    """So many containers of an environment, started and waiting, on each open node or on one."""

    image: str = Field(min_length=1, max_length=300, description="As leases ask for it.")
    node: str | None = Field(None, max_length=100, description="Only on the node of that name.")
    gpu: str | None = Field(
        None,
        min_length=1,
        max_length=60,
        description="Each bound to a free device with this in its model's name.",
    )
    count: int = Field(1, ge=1, le=64)
    cpus: str | None = Field(None, max_length=20, description="As a lease that names none.")
    memory: str | None = Field(None, max_length=20, description="As a lease that names none.")


class WarmPoolOut(Wire):
    """A pool. CPUs in cores."""

    image: str
    node: str | None
    gpu: str | None
    count: int
    cpus: float
    memory_bytes: int
    ready: int
    """On all its nodes."""


class WarmOut(Wire):
    """So many of a kind on a node, in one state of their life."""

    node: str
    role: str
    state: str
    image: str | None
    count: int


class WarmPage(Wire):
    items: list[WarmOut]
    pools: list[WarmPoolOut]
