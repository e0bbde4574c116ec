"""What the proxy carried by itself, added to what the built-in plane counts: one account a lease."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from api.gateway.proxy.front import Carried
from api.gateway.traffic import Counters


def add(counters: Counters, carried: Mapping[UUID, Carried]) -> None:
    """On the event loop's thread. All of it is somebody's: what only reads on a beat goes the built-in way."""
    for lease_id, one in carried.items():
        count = counters.of(lease_id)
        count.requests += one.requests
        count.bytes_in += one.bytes_in
        count.bytes_out += one.bytes_out
        count.asked += one.requests
        if one.bytes_in and not count.asked:
            count.asked = 1  # a long upload is activity for as long as it takes
