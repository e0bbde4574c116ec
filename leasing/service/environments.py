"""What an environment of the catalogue brings along, for who asks for a lease of it."""

from __future__ import annotations

from collections.abc import Iterable

from leasing.schema.cluster import EnvironmentOut
from leasing.schema.endpoint import EndpointRequest
from leasing.schema.lease import LeaseRequest


def filled(ask: LeaseRequest, catalogue: Iterable[EnvironmentOut]) -> LeaseRequest:
    """With its port, if it has one and the request names none; and with its endpoint closed to who may only call, where
    that is a way into the lease."""
    environment = next((one for one in catalogue if one.name == ask.image), None)
    if environment is None or environment.port is None or ask.port not in (None, environment.port):
        return ask
    options = ask.endpoint or EndpointRequest()
    if environment.inside and options.inside is None:
        options = options.model_copy(update={"inside": True})
    return ask.model_copy(update={"port": environment.port, "endpoint": options})
