"""Whatever is asked and changed: no answer is too old, from before a change, somebody else's, or another call's."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from api.gateway.cache import Bounds, ResponseCache
from api.gateway.cache_store import Memory
from api.gateway.hooks import Answer
from api.gateway.traffic import Counters
from tests.unit.test_gateway_cache_rules import ADA, BOB, TARGET, call, headers

MOST = 6_000
SECONDS = TARGET.endpoint.cache_seconds or 0


@dataclass(frozen=True)
class Ask:
    method: str
    path: str
    body: bytes
    user: str
    said: str


asks = st.builds(
    Ask,
    st.sampled_from(["GET", "HEAD", "POST", "POST", "DELETE"]),
    st.sampled_from(["/a", "/b?x=1"]),
    st.sampled_from([b"", b"1", b"2"]),
    st.sampled_from(["ada", "bob"]),
    st.sampled_from(["", "", "Cache-Control: no-cache", "Cookie: a=1", "Accept: x"]),
)
answers = st.sampled_from(
    [
        "",
        "",
        "Cache-Control: private",
        "Cache-Control: no-store",
        "Cache-Control: max-age=20",
        "Set-Cookie: a=1",
    ]
)
steps = st.lists(
    st.tuples(asks, answers, st.sampled_from([0, 0, 1, 15, 70]), st.integers(0, 900)), max_size=40
)


@settings(max_examples=100)
@given(steps)
def test_no_answer_that_the_application_would_not_stand_for(
    given_steps: list[tuple[Ask, str, int, int]],
) -> None:
    asyncio.run(_play(given_steps))


async def _play(given_steps: list[tuple[Ask, str, int, int]]) -> None:
    at, changed = [1_800_000_000.0], 0
    store = Memory(MOST, lambda: at[0])
    cache = ResponseCache(store, Counters(), Bounds(10, 700), lambda: at[0])
    given_answers: dict[bytes, tuple[Ask, str, float, int]] = {}
    for number, (ask, said, passed, size) in enumerate(given_steps):
        at[0] += passed
        body = b"" if ask.method in ("GET", "HEAD") else ask.body
        made = call(ask.method, ask.path, ask.said, ADA if ask.user == "ada" else BOB)
        gathered = cache.gathers(made, len(body))
        found = await cache.find(made, body) if gathered is not None else None
        if isinstance(found, Answer):
            origin, told, when, before = given_answers[found.body]
            method = "GET" if ask.method == "HEAD" else ask.method
            assert (origin.method, origin.path) == (method, ask.path)
            assert method == "GET" or origin.body == ask.body
            assert ("Accept" in origin.said) == ("Accept" in ask.said)
            assert at[0] - when < (20 if "max-age" in told else SECONDS)
            assert before == changed
            assert "private" not in told or origin.user == ask.user
            assert told not in ("Cache-Control: no-store", "Set-Cookie: a=1")
            assert "no-cache" not in ask.said
            assert "Cookie" not in ask.said
            continue
        answer = b"%d:" % number + b"x" * size
        given_answers[answer] = (ask, said, at[0], changed)
        if ask.method == "DELETE":
            changed += 1
        if found is not None:
            heard = found.head(200, "OK", headers(said)) and found.data(answer)
            found.end(whole=heard)
            await asyncio.gather(*cache._writing)
        assert store.total_bytes <= MOST
