"""The tunnel's own refusals, on an engine in memory; what goes through it is in test_ssh.py, with a real one."""

from __future__ import annotations

import pytest

from leasing import Client
from leasing.drivers.spec import TOOLS
from leasing.errors import (
    Conflict,
    DriverError,
    EngineDown,
    Invalid,
    LeasingError,
    NotAllowed,
    NotFound,
    NotSignedIn,
)
from leasing.sdk.credentials import Credentials
from leasing.sdk.transport import Transport
from leasing.sdk.tunnel import Tunnel
from tests.support.api import Served
from tests.support.cluster import Cluster

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2vhdQpz0cGZUZ0G2ZsG7cIfXK0bC1pHc5K9Qf3Y0bL"


def refused(api: Served, secret: str, lease: str, key: str = KEY) -> LeasingError:
    with (
        Transport(Credentials(api.url, secret)) as transport,
        pytest.raises(LeasingError) as raised,
        Tunnel.open(transport, lease, key=key),
    ):
        pass
    return raised.value


def test_who_may_not_enter_is_told_why(api: Served, cluster: Cluster, ada: Client) -> None:
    lease, waiting = cluster.run(), cluster.ask()
    mine = ada.credentials.token
    assert isinstance(refused(api, "lse_wrong", lease.name), NotSignedIn)
    assert isinstance(refused(api, api.user("eve"), lease.name), NotAllowed)
    assert isinstance(refused(api, mine, "nosuch"), NotFound)
    assert isinstance(refused(api, mine, waiting.name), Conflict)
    cluster.driver.knobs.down = True
    assert isinstance(refused(api, mine, lease.name), EngineDown)


def test_a_key_is_one_line_without_options(api: Served, cluster: Cluster, ada: Client) -> None:
    """Whatever else came with it would be believed by the server inside."""
    lease, mine = cluster.run(), ada.credentials.token
    for key in (
        "",
        "AAAA",
        f'command="sh" {KEY}',
        f"restrict,{KEY}",
        f"{KEY}\n{KEY}",
        f"{KEY}\n",
        f"{KEY} a comment",
        KEY.replace(" ", "\n-----END "),
        f"ssh-rsa {'A' * 3000}",
    ):
        assert isinstance(refused(api, mine, lease.name, key), Invalid), key


def test_a_server_that_does_not_start_is_quoted(api: Served, cluster: Cluster, ada: Client) -> None:
    """The engine in memory gives back what it is told, which is no SSH."""
    lease = cluster.run()
    said = refused(api, ada.credentials.token, lease.name)
    assert isinstance(said, DriverError)
    assert KEY in said.message
    assert "lease exec" in (said.hint or "")


def test_a_lease_is_made_with_the_way_in(cluster: Cluster) -> None:
    lease = cluster.run()
    made = cluster.driver.spec(cluster.container(lease.id))
    assert made.tools is not None
    assert made.tools.startswith("leasing/ssh:")
    assert not [mount for mount in made.mounts if mount.target == TOOLS], "the driver knows how"
