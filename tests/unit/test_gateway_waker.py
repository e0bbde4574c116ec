"""Which leases calls wake, as a table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from api.gateway.grants import Grants
from api.gateway.waker import Waker
from leasing.schema.endpoint import EndpointOptions
from leasing.settings.gateway import GatewaySettings
from leasing.settings.limits import LimitSettings
from leasing.states import LeaseState, SuspendReason
from tests.unit.test_gateway_cache_rules import TARGET, visitor

ASLEEP = replace(
    TARGET, state="suspended", suspend_reason="idle", endpoint=EndpointOptions(wake=True), address=None
)


def wakes(**changes: object) -> bool:
    settings = GatewaySettings()
    waker = Waker(
        Grants(None, 5.0),  # type: ignore[arg-type]  # nothing is read
        None,  # type: ignore[arg-type]  # nor written
        settings,
        LimitSettings(),
        inside=lambda _: True,
    )
    return waker.wakes(visitor(), replace(ASLEEP, **changes))  # type: ignore[arg-type]  # the dataclass checks them


@pytest.mark.parametrize("state", LeaseState)
def test_it_is_woken_from_falling_asleep_until_it_runs(state: LeaseState) -> None:
    assert wakes(state=state) is (state not in (LeaseState.RUNNING, LeaseState.ENDED))


@pytest.mark.parametrize("reason", [*SuspendReason, None])
def test_only_who_was_suspended_as_idle(reason: SuspendReason | None) -> None:
    assert wakes(suspend_reason=reason) is (reason is SuspendReason.IDLE)


def test_only_an_endpoint_that_was_told_so() -> None:
    assert wakes()
    assert not wakes(endpoint=EndpointOptions())
    assert not wakes(port=None)
