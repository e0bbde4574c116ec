"""Where messages may go out to: addresses that users give must not lead into the installation's own network.

Whoever sends asks `Reach.permits` of the very address that it connects to, after the name was resolved and for each
redirect: then it does not matter what a name resolves to the next time.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from leasing.errors import Invalid

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
NAT64 = ipaddress.ip_network("64:ff9b::/96")
METADATA = frozenset({ipaddress.ip_address("168.63.129.16")})
"""Public by its number, and answered by the cloud's own host."""
LOCAL_NAMES = ("localhost", ".localhost", ".local", ".internal")


@dataclass(frozen=True)
class Reach:
    """What may be connected to: the public internet, and `extra` hosts and networks."""

    extra: tuple[str, ...] = ()
    _addresses: frozenset[Address] = field(default=frozenset())

    def resolved(self) -> Reach:
        """The same, with the names among `extra` looked up. Asks the network."""
        found: set[Address] = set()
        for name in self.extra:
            if _network(name) is None:
                found.update(_lookup(name))
        return Reach(self.extra, frozenset(found))

    def permits(self, address: str) -> bool:
        """Whether that numeric address may be connected to; a name never."""
        try:
            number = _plain(ipaddress.ip_address(address.partition("%")[0]))
        except ValueError:
            return False
        if number in self._addresses:
            return True
        networks = (_network(one) for one in self.extra)
        if any(network is not None and number in network for network in networks):
            return True
        return public(number)


def public(number: Address) -> bool:
    """Whether an address is one of the public internet: not loopback, private, link-local, metadata or multicast."""
    return number.is_global and not number.is_multicast and not number.is_reserved and number not in METADATA


def check_url(url: str, reach: Reach, *, schemes: Iterable[str]) -> None:
    """Refuse what plainly leads where it must not; what a name resolves to is judged when something is sent.

    Raises `Invalid`.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError as error:
        raise Invalid("That is not an address.", hint="Write it like https://example.org/hook") from error
    allowed = sorted(schemes)
    if parts.scheme.lower() not in allowed:
        raise Invalid(
            f"{parts.scheme[:40]!r} is not a kind of address that may be used here.",
            hint=f"Those that may: {', '.join(allowed)}.",
        )
    if host in reach.extra:
        return
    local = any(host == name or (name[0] == "." and host.endswith(name)) for name in LOCAL_NAMES)
    if local or (_network(host) is not None and not reach.permits(host)):
        raise Invalid(
            f"{host[:80]!r} is not a public address.", hint="An admin may allow it: LEASING_NOTIFY_ALLOW."
        )


def _plain(number: Address) -> Address:
    """The IPv4 address that an IPv6 one only wraps, which is where it leads."""
    if isinstance(number, ipaddress.IPv6Address):
        inner = number.ipv4_mapped or number.sixtofour
        if inner is None and number in NAT64:
            inner = ipaddress.IPv4Address(int(number) & 0xFFFFFFFF)
        if inner is None and number.teredo is not None:
            inner = number.teredo[1]
        return inner or number
    return number


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _lookup(name: str) -> list[Address]:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [ipaddress.ip_address(str(where[0]).partition("%")[0]) for *_, where in found]
