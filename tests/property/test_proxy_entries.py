"""The proxy's maps against the one rule, over any sequence of views: never a call too many, never one forgotten."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from api.gateway.authorise import Upstream, authorise
from api.gateway.grants import Target, View, Visitor
from api.gateway.proxy.entries import Entries
from leasing.schema.endpoint import PLAIN, EndpointOptions
from leasing.states import ProjectRole

START = datetime(2026, 1, 1, tzinfo=UTC)
IDS = [UUID(int=number) for number in range(1, 5)]
NAMES = ["app", "demo", "notebook"]

visitors = st.dictionaries(
    st.sampled_from([hashlib.sha256(bytes([number])).digest() for number in range(5)]),
    st.builds(
        Visitor,
        token_id=st.sampled_from(IDS),
        user_id=st.sampled_from(IDS[:3]),
        name=st.sampled_from(["ada", "bob", "o'neil"]),
        admin=st.booleans(),
        lease_id=st.sampled_from([None, None, *IDS[:2]]),
        expires_at=st.sampled_from([None, START, START + timedelta(hours=1), START + timedelta(hours=2)]),
        roles=st.dictionaries(st.sampled_from(IDS[:2]), st.sampled_from(ProjectRole), max_size=1),
    ),
)
targets = st.dictionaries(
    st.sampled_from(NAMES),
    st.builds(
        Target,
        lease_id=st.sampled_from(IDS),
        name=st.just("app"),
        owner_id=st.sampled_from(IDS[:3]),
        project_id=st.sampled_from(IDS[:2]),
        shared=st.booleans(),
        state=st.sampled_from(["running", "stopping", "ended", "suspended"]),
        message=st.just(""),
        port=st.sampled_from([None, 80, 8000]),
        address=st.sampled_from([None, "10.0.0.1", "10.0.0.2", "192.0.2.1", "fd00::1"]),
        endpoint=st.sampled_from([PLAIN, EndpointOptions(wake=True), EndpointOptions(rate=1.0)]),
    ),
).map(lambda made: {name: replace(one, name=name) for name, one in made.items()})
steps = st.lists(st.tuples(visitors, targets, st.integers(0, 120)), min_size=1, max_size=6)


class Proxy:
    """What a proxy holds that does as it is told."""

    def __init__(self, entries: Entries) -> None:
        self.entries = entries
        self.tokens: dict[str, str] = {}
        self.grants: dict[str, str] = {}

    def take(self) -> None:
        for held, told in ((self.tokens, self.entries.tokens), (self.grants, self.entries.grants)):
            for key in told.gone:
                del held[key]  # it is told of nothing that it does not hold
            assert told.changed.keys() <= held.keys()
            held.update(told.changed)
            assert not told.new.keys() & held.keys()
            held.update(told.new)
            assert held == told.held
            told.settled()

    def lets(self, secret: bytes, name: str) -> tuple[str, str, str] | None:
        """User, upstream and account of a call, as the configuration finds them."""
        if (who := self.tokens.get(secret.hex().upper())) is None:
            return None
        _, principal, user = who.split(":")
        if (at := self.grants.get(f"{principal}|{name}")) is None:
            return None
        host, port, key, _ = at.split(":")
        return user, f"{host}:{port}", str(self.entries.leases[int(key)])


@settings(max_examples=60)
@given(steps)
def test_it_lets_in_whom_the_rule_lets_in_and_nobody_else(
    given_steps: list[tuple[dict[bytes, Visitor], dict[str, Target], int]],
) -> None:
    entries = Entries(lambda host: host.startswith("10."))
    proxy = Proxy(entries)
    for who, what, minutes in given_steps:
        now = START + timedelta(minutes=minutes)
        entries.update(View(who, what), now)
        proxy.take()
        for secret in [*who, b"unknown"]:
            for name in NAMES:
                visitor, target = who.get(secret), what.get(name)
                live = visitor and (visitor.expires_at is None or visitor.expires_at > now)
                verdict = authorise(visitor, target) if visitor and live else None
                expected = None
                if isinstance(verdict, Upstream) and visitor and target and _simple(visitor, target):
                    expected = (visitor.name, f"{verdict.host}:{verdict.port}", str(target.lease_id))
                assert proxy.lets(secret, name) == expected


def _simple(visitor: Visitor, target: Target) -> bool:
    inside = target.address is not None and target.address.startswith("10.")
    return inside and target.endpoint.rate is None and "'" not in visitor.name


@settings(max_examples=60)
@given(steps)
def test_a_stream_may_go_on_only_while_its_token_and_its_grant_last(
    given_steps: list[tuple[dict[bytes, Visitor], dict[str, Target], int]],
) -> None:
    entries = Entries(lambda _: True)
    streams: set[tuple[int, str]] = set()
    for who, what, minutes in given_steps:
        entries.update(View(who, what), START + timedelta(minutes=minutes))
        live = {
            (int(serial), pair)
            for serial, principal, _ in (value.split(":") for value in entries.tokens.held.values())
            for pair in entries.grants.held
            if pair.startswith(f"{principal}|")
        }
        barred = set(entries.barred(streams))
        assert barred == streams - live
        streams |= live
