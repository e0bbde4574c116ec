"""The cache of endpoints' answers, at the seam where the plane asks it, kept in memory and on a real Redis server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from api.gateway.cache import Bounds, ResponseCache
from api.gateway.cache_redis import Redis, packed, unpacked
from api.gateway.cache_store import Kept, Memory, Store
from api.gateway.hooks import Answer, Call, Headers, Recorder
from api.gateway.traffic import Counters
from tests.support import redis
from tests.support.stack import free_port
from tests.unit.test_gateway_cache_rules import ADA, BOB, TARGET, call, headers

KINDS = ("memory", "redis")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis.serving(tmp_path_factory.mktemp("redis")) as url:
        yield url


@dataclass
class Rig:
    """A cache, and an application that answers when a test lets it."""

    cache: ResponseCache
    time: list[float]
    lease_id: UUID = field(default_factory=uuid4)
    asked: int = 0
    said: str = "Content-Type: application/json"
    status: int = 200
    body: bytes = b"42"
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    arrivals: asyncio.Queue[None] = field(default_factory=asyncio.Queue)

    def call(self, method: str = "POST", path: str = "/infer", said: str = "", user: UUID = ADA) -> Call:
        made = call(method, path, said, user)
        return replace(made, target=replace(TARGET, lease_id=self.lease_id))

    async def ask(self, made: Call | None = None, body: bytes = b"x") -> tuple[str, bytes, Headers]:
        """As the plane does: how it was answered, and with what."""
        made = made or self.call()
        gathered = self.cache.gathers(made, len(body))
        if gathered is None:
            self.asked += 1
            return "past", self.body, ()
        assert gathered == len(body)
        found = await self.cache.find(made, body)
        if isinstance(found, Answer):
            return "hit", found.body, found.headers
        self.asked += 1
        self.arrivals.put_nowait(None)
        said = self.body
        await self.gate.wait()
        if found is not None:
            self.hear(found, said)
        return "miss" if found is not None and found.marks else "past", said, ()

    def hear(self, recorder: Recorder, body: bytes) -> None:
        heard = recorder.head(self.status, "OK", headers(self.said))
        for at in range(0, len(body), 1000):
            heard = heard and recorder.data(body[at : at + 1000])
        recorder.end(whole=heard)

    async def arrived(self, calls: int = 1) -> None:
        for _ in range(calls):
            await self.arrivals.get()

    async def written(self) -> None:
        await asyncio.gather(*self.cache._writing)

    def counts(self) -> tuple[int, int]:
        count = self.cache.counters.of(self.lease_id)
        return count.cache_hits, count.cache_misses


@asynccontextmanager
async def rig(kind: str, server: str, *, most: int = 2**20, entry: int = 2**16) -> AsyncIterator[Rig]:
    time = [1_800_000_000.0]
    store: Store = Memory(most, lambda: time[0]) if kind == "memory" else Redis(server)
    cache = ResponseCache(store, Counters(), Bounds(body=10_000, entry=entry), lambda: time[0])
    made = Rig(cache, time)
    made.gate.set()
    try:
        yield made
    finally:
        await cache.close()


def run(kind: str, server: str, work: Callable[[Rig], Coroutine[None, None, None]], **facts: int) -> None:
    async def whole() -> None:
        async with rig(kind, server, **facts) as made:
            await work(made)

    asyncio.run(whole())


@pytest.mark.parametrize("kind", KINDS)
def test_an_equal_call_is_answered_without_the_application(kind: str, server: str) -> None:
    async def work(app: Rig) -> None:
        assert (await app.ask())[0] == "miss"
        await app.written()
        app.time[0] += 7
        how, body, told = await app.ask()
        assert (how, body, app.asked) == ("hit", b"42", 1)
        assert dict(told) == {b"Content-Type": b"application/json", b"Age": b"7", b"X-Leasing-Cache": b"hit"}
        assert (await app.ask(body=b"y"))[0] == "miss"
        assert (await app.ask(app.call(path="/infer?k=2")))[0] == "miss"
        assert (await app.ask(app.call(said="Accept: text/plain")))[0] == "miss"
        assert (await app.ask(app.call(user=BOB)))[0] == "hit"
        assert app.counts() == (2, 4)
        fresh = app.call(said="Cache-Control: no-cache")
        app.body = b"43"
        assert (await app.ask(fresh))[:2] == ("miss", b"43")
        await app.written()
        assert (await app.ask(body=b"y"))[:2] == ("hit", b"42")

    run(kind, server, work)


@pytest.mark.parametrize("kind", KINDS)
def test_what_one_user_was_told_is_nobody_else_s(kind: str, server: str) -> None:
    async def work(app: Rig) -> None:
        app.said = "Cache-Control: private"
        app.body = b"ada's"
        assert (await app.ask())[:2] == ("miss", b"ada's")
        await app.written()
        app.body = b"bob's"
        assert (await app.ask(app.call(user=BOB)))[:2] == ("miss", b"bob's")
        await app.written()
        assert (await app.ask())[:2] == ("hit", b"ada's")
        assert (await app.ask(app.call(user=BOB)))[:2] == ("hit", b"bob's")
        for said in ("Set-Cookie: a=1", "Cache-Control: no-store", "Vary: *"):
            app.said = said
            assert [(await app.ask(body=said.encode()))[0] for _ in "ab"] == ["miss", "miss"]
            await app.written()

    run(kind, server, work)


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_that_changes_something_makes_all_of_the_lease_be_asked_anew(kind: str, server: str) -> None:
    async def work(app: Rig) -> None:
        other = replace(app, lease_id=uuid4())
        for one in (app, other):
            await one.ask()
            await one.written()
        for change in (app.call("DELETE"), app.call("POST", said="Content-Type: multipart/form-data")):
            assert (await app.ask())[0] == "hit"
            assert (await app.ask(change))[0] == "past"
            await app.written()
            assert (await app.ask())[0] == "miss", change.method
            await app.written()
        assert (await other.ask())[0] == "hit"
        large = b"x" * 10_001
        assert app.cache.gathers(app.call("PUT"), len(large)) is None
        await app.written()
        assert (await app.ask())[0] == "miss"

    run(kind, server, work)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_calls_at_once_ask_the_application_once(kind: str, server: str) -> None:
    async def work(app: Rig) -> None:
        app.gate.clear()
        asking = [asyncio.ensure_future(app.ask()) for _ in range(50)]
        await app.arrived()
        for one in asking[10:20]:
            one.cancel()  # those who go away take nobody along
        app.gate.set()
        told = await asyncio.gather(*asking, return_exceptions=True)
        how = [one[0] for one in told if isinstance(one, tuple)]
        assert (app.asked, how.count("miss"), how.count("hit")) == (1, 1, 39)

    run(kind, server, work)


@pytest.mark.parametrize("kind", KINDS)
def test_who_asks_after_a_change_does_not_wait_for_an_answer_from_before(kind: str, server: str) -> None:
    async def work(app: Rig) -> None:
        app.gate.clear()
        app.body = b"old"
        before = asyncio.ensure_future(app.ask(app.call("GET")))
        await app.arrived()
        change = await app.cache.find(app.call("PUT"), b"")
        assert change is not None
        assert not isinstance(change, Answer)
        change.end(whole=True)
        await app.written()
        app.body = b"new"
        after = asyncio.ensure_future(app.ask(app.call("GET")))
        await asyncio.wait_for(app.arrived(), 5)
        app.gate.set()
        assert [(await one)[1] for one in (before, after)] == [b"old", b"new"]
        await app.written()
        assert (await app.ask(app.call("GET")))[:2] == ("hit", b"new")

    run(kind, server, work)


def test_an_answer_that_may_not_be_kept_holds_nobody_up() -> None:
    async def work(app: Rig) -> None:
        app.said = "Cache-Control: no-store"
        app.gate.clear()
        asking = [asyncio.ensure_future(app.ask()) for _ in range(5)]
        await app.arrived()
        app.gate.set()
        assert [one[0] for one in await asyncio.gather(*asking)] == ["miss"] * 5
        app.gate.clear()
        again = [asyncio.ensure_future(app.ask()) for _ in range(5)]
        await app.arrived(4 + 5)  # from now on each goes by itself, at once
        app.gate.set()
        await asyncio.gather(*again)
        assert app.asked == 10

    run("memory", "", work)


def test_who_breaks_off_leaves_the_call_to_the_next_and_half_an_answer_is_none() -> None:
    async def work(app: Rig) -> None:
        first = await app.cache.find(app.call(), b"x")
        assert not isinstance(first, Answer)
        assert first is not None
        waiting = asyncio.ensure_future(app.ask())
        await asyncio.sleep(0)
        assert first.head(200, "OK", headers(app.said))
        assert first.data(b"4")
        first.end(whole=False)
        assert (await waiting)[0] == "miss"
        assert app.asked == 1
        await app.written()
        assert (await app.ask())[:2] == ("hit", b"42")

    run("memory", "", work)


def test_an_own_answer_is_not_given_to_others_who_wait() -> None:
    async def work(app: Rig) -> None:
        app.said = "Vary: X-Leasing-User"
        app.gate.clear()
        ada, bob, ada_too = (asyncio.ensure_future(app.ask(app.call(user=user))) for user in (ADA, BOB, ADA))
        await app.arrived()
        app.gate.set()
        assert [one[0] for one in await asyncio.gather(ada, bob, ada_too)] == ["miss", "miss", "hit"]

    run("memory", "", work)


def test_memory_is_bounded_and_the_greatest_gives_way() -> None:
    async def work(app: Rig) -> None:
        store = app.cache.store
        assert isinstance(store, Memory)
        small = replace(app, lease_id=uuid4())
        await small.ask()
        app.body = b"x" * 9_000
        for number in range(40):
            await app.ask(body=b"%d" % number)
            await app.written()
            assert store.total_bytes <= 100_000
        assert (await small.ask())[0] == "hit", "one lease cannot push out another's little"
        assert (await app.ask(body=b"39"))[0] == "hit"
        assert (await app.ask(body=b"0"))[0] == "miss"
        app.body = b"x" * 20_001
        assert [(await app.ask(body=b"long"))[0] for _ in "ab"] == ["miss", "miss"]
        app.time[0] += 61
        assert (await small.ask())[0] == "miss", "its time is over"
        await store.change(app.lease_id)
        await store.change(small.lease_id)
        assert store.total_bytes == 0

    run("memory", "", work, most=100_000, entry=20_000)


def test_what_is_not_asked_for_costs_nothing() -> None:
    async def work(app: Rig) -> None:
        plain = replace(TARGET, endpoint=TARGET.endpoint.model_copy(update={"cache_seconds": None}))
        assert app.cache.gathers(replace(app.call(), target=plain), 10) is None
        assert app.cache.gathers(app.call(), 10_001) is None
        assert app.cache.gathers(app.call(), None) == 10_000
        assert app.cache.gathers(app.call("OPTIONS"), 0) is None
        assert app.counts() == (0, 0)

    run("memory", "", work)


def test_a_head_is_answered_by_a_get_and_keeps_nothing_itself() -> None:
    async def work(app: Rig) -> None:
        assert (await app.ask(app.call("HEAD"), b""))[0] == "past"
        assert (await app.ask(app.call("GET"), b""))[0] == "miss"
        await app.written()
        assert (await app.ask(app.call("HEAD"), b""))[:2] == ("hit", b"42")

    run("memory", "", work)


def test_gateways_that_share_a_server_share_answers_and_what_changes_them(server: str) -> None:
    async def work(app: Rig) -> None:
        async with rig("redis", server) as other:
            other.lease_id = app.lease_id
            await app.ask()
            await app.written()
            assert (await other.ask())[0] == "hit"
            await other.ask(other.call("DELETE"))
            await other.written()
            assert (await app.ask())[0] == "miss"

    run("redis", server, work)


def test_a_server_that_is_away_is_done_without(tmp_path: Path) -> None:
    async def work() -> None:
        port, clock = free_port(), [0.0]
        store = Redis(f"redis://127.0.0.1:{port}/0", lambda: clock[0])
        app = Rig(ResponseCache(store, Counters(), Bounds(1000, 1000)), [0.0])
        app.gate.set()
        assert [(await app.ask())[0] for _ in range(3)] == ["past"] * 3
        with redis.serving(tmp_path, port):
            assert (await app.ask())[0] == "past", "it is not asked again at once"
            clock[0] += 2
            assert (await app.ask())[0] == "miss"
            await app.written()
            assert (await app.ask())[0] == "hit"
        assert (await app.ask())[0] == "past"
        await app.cache.close()

    asyncio.run(work())


def test_what_somebody_else_wrote_is_no_answer() -> None:
    kept = Kept(200, "OK", [(b"A", b"\xff")], b"body\nmore", 5.0, own=True)
    assert unpacked(packed(kept)) == kept
    for data in (
        b"",
        b"{}",
        b"[]\n",
        b"null\nx",
        b'{"status": "x"}\n',
        b'{"status": 200, "headers": [[1, 2]]}\n',
    ):
        assert unpacked(data) is None
