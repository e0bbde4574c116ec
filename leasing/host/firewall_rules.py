"""What a lease's network may reach, as rules; nothing here touches the machine but to read its name servers."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable
from pathlib import Path

from leasing.errors import Invalid

PREFIX = "lsg"
BRIDGES = f"{PREFIX}+"
INPUT, FORWARD, DENY = "LEASING-INPUT", "LEASING-FORWARD", "LEASING-DENY"
EVERYTHING = f"-i {BRIDGES} -j {DENY}"
OTHERS = f"-i {BRIDGES} -o {BRIDGES} -j {DENY}"
DENIED = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",  # carriers' own networks, and some clouds' metadata
    "127.0.0.0/8",
    "169.254.0.0/16",  # link-local: cloud metadata
    "172.16.0.0/12",
    "192.168.0.0/16",
    "198.18.0.0/15",  # test networks
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",  # unassigned, and broadcast
)

RESOLVERS = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
"""The second holds the true servers where the first names only systemd's own on loopback; the engine reads it too."""
DAEMON = Path("/etc/docker/daemon.json")


def rules(allow: str, servers: Iterable[str]) -> dict[str, list[str]]:
    """The rules of each chain for IPv4, written as iptables itself prints them. Raises `Invalid` (see `allowed`)."""
    established = f"-i {BRIDGES} -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN"
    dns = [
        f"-d {server}/32 -i {BRIDGES} -p {protocol} -m {protocol} --dport 53 -j RETURN"
        for server in servers
        for protocol in ("udp", "tcp")
    ]
    exceptions, to_host = [], []
    for network, port in allowed(allow):
        which = f" -p tcp -m tcp --dport {port}" if port else ""
        rule = f"-d {network} -i {BRIDGES}{which} -j RETURN"
        exceptions.append(rule)
        # A proxy may well run on this machine; a whole network never means this machine.
        if port and network.prefixlen == 32:
            to_host.append(rule)
    denied = [f"-d {network} -i {BRIDGES} -j {DENY}" for network in DENIED]
    return {
        DENY: _deny("icmp-port-unreachable"),
        INPUT: [f"-A {INPUT} {rule}" for rule in (established, *dns, *to_host, EVERYTHING)],
        FORWARD: [f"-A {FORWARD} {rule}" for rule in (established, OTHERS, *dns, *exceptions, *denied)],
    }


def closed() -> dict[str, list[str]]:
    """The same for IPv6: nothing passes, for no lease's network has it."""
    made = {chain: [f"-A {chain} {EVERYTHING}"] for chain in (INPUT, FORWARD)}
    return {DENY: _deny("icmp6-port-unreachable"), **made}


def _deny(answer: str) -> list[str]:
    # A connection is reset: an ICMP answer as fast as this machine's is overheard, and the caller tries for a second.
    return [
        f"-A {DENY} -p tcp -j REJECT --reject-with tcp-reset",
        f"-A {DENY} -j REJECT --reject-with {answer}",
    ]


def allowed(text: str) -> list[tuple[ipaddress.IPv4Network, int | None]]:
    """The exceptions in `LEASING_FIREWALL_ALLOW` as network and port (None: all). Raises `Invalid`."""
    found: list[tuple[ipaddress.IPv4Network, int | None]] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        address, colon, port = part.partition(":")
        try:
            number = int(port) if colon else None
            if number is not None and not 1 <= number <= 65535:
                raise ValueError
            found.append((ipaddress.IPv4Network(address, strict=False), number))
        except ValueError as error:
            raise Invalid(
                f"LEASING_FIREWALL_ALLOW: {part!r} is neither ADDRESS/PREFIX nor ADDRESS:PORT."
            ) from error
    return found


def name_servers(resolvers: Iterable[Path] = RESOLVERS, daemon: Path = DAEMON) -> list[str]:
    """The IPv4 servers that the engine hands to containers. Those on loopback it asks itself, or passes over."""
    named: list[str] = []
    for path in resolvers:
        if path.is_file():
            named += re.findall(r"^\s*nameserver\s+(\S+)", path.read_text(), re.MULTILINE)
    named += _of_the_engine(daemon)
    found: list[str] = []
    for name in named:
        try:
            address = ipaddress.IPv4Address(name)
        except ValueError:
            continue
        if not address.is_loopback and str(address) not in found:
            found.append(str(address))
    return found


def _of_the_engine(daemon: Path) -> list[str]:
    try:
        configured = json.loads(daemon.read_text()).get("dns", [])
    except (OSError, ValueError):
        return []
    return [str(server) for server in configured]
