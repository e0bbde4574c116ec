"""The firewall against the kernel, in a network namespace of its own: this machine's rules are not touched."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from leasing.host import firewall
from leasing.host.firewall import State
from leasing.host.firewall_rules import DENY, FORWARD, INPUT
from leasing.settings.firewall import FirewallSettings
from tests.support.network import OwnNetwork

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may have a network of its own")


@pytest.fixture
def network() -> Iterator[OwnNetwork]:
    made = OwnNetwork()
    yield made
    made.close()


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def chain(network: OwnNetwork, name: str, tool: str = "iptables") -> list[str]:
    return [line for line in network(run, tool, "-S", name).splitlines() if line.startswith("-A ")]


def ensure(network: OwnNetwork, allow: str = "") -> str:
    found = network(firewall.ensure, FirewallSettings(allow=allow))
    assert found.state is State.APPLIED, found.detail
    return found.detail


def test_rules_are_set_once_and_known_again_as_the_kernel_prints_them(network: OwnNetwork) -> None:
    assert ensure(network, "10.1.2.3:3128,192.168.7.0/24") == "set now"
    before = network(run, "iptables-save")
    assert ensure(network, "10.1.2.3:3128,192.168.7.0/24") == "in place"
    assert network(run, "iptables-save") == before
    assert chain(network, "INPUT") == [f"-A INPUT -j {INPUT}"]
    assert chain(network, "FORWARD") == [f"-A FORWARD -j {FORWARD}"], "no engine has made its chain here"
    assert chain(network, INPUT)[-1] == f"-A {INPUT} -i lsg+ -j {DENY}"


def test_ipv6_is_closed(network: OwnNetwork) -> None:
    ensure(network)
    for name in (INPUT, FORWARD):
        assert chain(network, name, "ip6tables") == [f"-A {name} -i lsg+ -j {DENY}"]


def test_what_others_did_to_the_tables_is_repaired(network: OwnNetwork) -> None:
    ensure(network)
    wanted = chain(network, FORWARD)
    # an engine that starts: its chain, in front
    network(run, "iptables", "-N", "DOCKER-USER")
    network(run, "iptables", "-I", "FORWARD", "-j", "DOCKER-USER")
    # somebody's rule before ours, a hole in ours, and ours gone
    network(run, "iptables", "-I", "INPUT", "-p", "tcp", "--dport", "22", "-j", "ACCEPT")
    network(run, "iptables", "-D", FORWARD, "1")
    network(run, "ip6tables", "-F", INPUT)

    assert ensure(network) == "set now"
    assert chain(network, "INPUT") == [
        f"-A INPUT -j {INPUT}",
        "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT",
    ]
    assert chain(network, "DOCKER-USER") == [f"-A DOCKER-USER -j {FORWARD}"]
    assert chain(network, "FORWARD") == ["-A FORWARD -j DOCKER-USER"]
    assert chain(network, FORWARD) == wanted
    assert ensure(network) == "in place"


def test_rules_stay_while_a_lease_s_bridge_is_there_and_leave_nothing_behind(network: OwnNetwork) -> None:
    network(run, "iptables", "-A", "INPUT", "-p", "icmp", "-j", "ACCEPT")
    before = network(run, "iptables", "-S"), network(run, "ip6tables", "-S")
    ensure(network)
    network(run, "ip", "link", "add", "lsg000000000001", "type", "bridge")
    assert not network(firewall.remove)
    assert ensure(network) == "in place"

    network(run, "ip", "link", "delete", "lsg000000000001")
    assert network(firewall.remove)
    assert (network(run, "iptables", "-S"), network(run, "ip6tables", "-S")) == before
    assert network(firewall.remove), "gone already"


def test_without_root_the_command_to_run_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = firewall.ensure(FirewallSettings())
    assert found.state is State.NOT_PERMITTED
    assert "-m leasing.host firewall" in found.detail
