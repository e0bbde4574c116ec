"""The built-in data plane: every request is decided here, and carried by what stands beside."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import logging
import math
import threading
from collections.abc import Sequence

from api.gateway import asking, entering, headers, rousing, routing
from api.gateway.asked import Asked
from api.gateway.authorise import Refusal, Upstream
from api.gateway.callers import Caller
from api.gateway.doors import Door, Doors
from api.gateway.exchange import Exchange, too_large
from api.gateway.grants import Grants, Target, View, Visitor
from api.gateway.held import Gathering, Held
from api.gateway.hooks import Answer, Cache, Call, Waker
from api.gateway.live import Live
from api.gateway.problems import Problem
from api.gateway.rates import Rates
from api.gateway.routing import Elsewhere, Place
from api.gateway.traffic import Counters
from api.gateway.upstreams import Pool, key_of
from api.gateway.wire.requests import Request
from leasing.database import Sessions
from leasing.settings.gateway import GatewaySettings

log = logging.getLogger(__name__)
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
SWEEP_SECONDS = 0.5
FOLLOW_SECONDS = 3.0
"""What is to be cut must be cut by then, or the grants that say so do not count as in force."""
STALE = Problem(503, "unavailable", "The gateway cannot confirm who may come in; try again shortly.", retry=2)
NOWHERE = Problem(404, "not_found", "Endpoints are under /l/<lease>/.")


class Plane:
    """Decides each request by the one rule, within the lease's limits, and has it carried. On the loop's thread."""

    def __init__(
        self,
        grants: Grants,
        counters: Counters,
        sessions: Sessions,
        settings: GatewaySettings,
        *,
        api_url: str,
        secure: bool,
        networks: Sequence[Network],
        domain: str | None = None,
        fronted: bool = False,
        cache: Cache | None = None,
        waker: Waker | None = None,
    ) -> None:
        """`networks` are where containers live: no upstream outside them is ever connected to. `fronted`: a proxy
        stands before it and says with a line PROXY who calls."""
        self.settings = settings
        self.counters = counters
        self.secure = secure
        self.fronted = fronted
        self.pool = Pool(settings.connect_seconds)
        self.live = Live()
        self._grants = grants
        self._sessions = sessions
        self._api_url = api_url
        self._domain = (domain or "").lower().encode()
        self._cache = cache
        self._waker = waker
        self._rates = Rates()
        self._doors = Doors(grants)
        self._callers: set[Caller] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        networks = tuple(networks)
        self.inside = functools.lru_cache(maxsize=4096)(lambda host: _inside(host, networks))
        """Whether an address is in the leases' networks."""

    # its life

    def caller(self) -> Caller:
        """For the next connection."""
        return Caller(self)

    async def run(self) -> None:
        """Look after deadlines and kept connections, until cancelled."""
        self._loop = asyncio.get_running_loop()
        tick = 0
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            at = self._loop.time()
            tick += 1
            for caller in [one for one in self._callers if one.deadline <= at]:
                caller.overdue()
            if tick % 4 == 0:
                self._tidy(at)

    def _tidy(self, at: float) -> None:
        for caller in [one for one in self._callers if one.gone]:
            caller.abort()
        listening = self._grants.listening()
        self._rates.forget([target.lease_id for target in listening])
        self.pool.sweep(
            at,
            {
                key_of(target.lease_id, Upstream(target.address, target.port))
                for target in listening
                if target.address is not None and target.port is not None
            },
        )

    async def close(self, grace: float) -> None:
        """Let what runs end for so long, and cut the rest."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.live.quiet(), grace)
        self.live.cut_all()
        for caller in list(self._callers):
            caller.abort()
        self.pool.close()
        for hook in (self._cache, self._waker):
            if hook is not None:
                await hook.close()

    def follow(self, _: View) -> None:
        """Of a new view: cut what it lets through no longer. Not on the loop's thread, which does the cutting.

        Raises `TimeoutError` if that has not happened in time.
        """
        if self._loop is None or self._loop.is_closed():
            return  # nothing is carried
        done = threading.Event()

        def recheck() -> None:
            if cut := self.live.recheck(self._grants):
                log.info("cut what was no longer allowed calls=%d", cut)
            done.set()

        try:
            self._loop.call_soon_threadsafe(recheck)
        except RuntimeError:
            return  # it stopped meanwhile, and what it carried with it
        if not done.wait(FOLLOW_SECONDS):
            raise TimeoutError("the gateway's loop did not answer")

    def opened(self, caller: Caller) -> bool:
        self._callers.add(caller)
        return len(self._callers) <= self.settings.connections

    def closed(self, caller: Caller) -> None:
        self._callers.discard(caller)

    # a request

    def begin(self, caller: Caller, request: Request, *, woken: bool = False) -> None:
        if not self._grants.current:
            caller.refuse(STALE)
            return
        place = routing.find(request, self._domain)
        if isinstance(place, Elsewhere):
            caller.reply(place.status, [(b"Location", place.location)])
            return
        if place is None:
            caller.refuse(NOWHERE)
            return
        if place.path.startswith(entering.ENTER) and place.path.partition(b"?")[0] == entering.ENTER:
            Held(caller, self._enter(caller, place, self._grants.target(place.name)))
            return
        door = self._doors.at(request, place)
        visitor, target, verdict = door.visitor, door.target, door.verdict
        waker = self._waker if target is not None and target.endpoint.wake and not woken else None
        if waker is not None and rousing.rouses(waker, self.counters, request, place, door):
            Held(caller, self._wake(caller, request, door))
            return
        if isinstance(verdict, Refusal):
            self._refuse(caller, request, verdict, place, target)
            return
        assert visitor is not None, "only the known are let in"
        assert target is not None, "only to what there is"
        at = caller.loop.time()
        problem = self._against(request, target, verdict, at, by_cookie=not door.own_token)
        if problem is not None:
            caller.refuse(problem)
            return
        self._carry(caller, self._asked(caller, request, place, visitor, target, verdict, door, at))

    def _against(
        self, request: Request, target: Target, upstream: Upstream, at: float, *, by_cookie: bool
    ) -> Problem | None:
        """What stands against a call of somebody who may call."""
        if not self.inside(upstream.host):
            log.error("upstream outside the leases' networks lease=%s", target.lease_id)
            return Problem(502, "upstream_outside", "The endpoint's address is not in the leases' networks.")
        if by_cookie and rousing.from_another_page(request):
            return Problem(
                403,
                "other_origin",
                "A page of another origin may not act here with your cookie; let it bring a token.",
                close=True,
            )
        options = target.endpoint
        if options.body_max_bytes is not None and request.length > options.body_max_bytes:
            return too_large(options.body_max_bytes)
        if self.live.calls(target.name) >= self.settings.calls_per_lease:
            return Problem(
                503,
                "too_many",
                f"Lease {target.name!r} has {self.settings.calls_per_lease} calls under way, the most that one may "
                "(LEASING_GATEWAY_CALLS_PER_LEASE); try again shortly.",
                retry=1,
            )
        wait = self._rates.wait(target.lease_id, options, at) if options.rate is not None else 0
        if wait:
            return Problem(
                429,
                "too_fast",
                f"Lease {target.name!r} takes {options.rate:g} calls a second; whoever may change it can allow more: "
                f"lease endpoint {target.name} --rate …",
                retry=math.ceil(wait),
            )
        return None

    def _asked(
        self,
        caller: Caller,
        request: Request,
        place: Place,
        visitor: Visitor,
        target: Target,
        upstream: Upstream,
        door: Door,
        at: float,
    ) -> Asked:
        count = self.counters.of(target.lease_id)
        count.requests += 1
        method, path = request.method.decode(), place.path.decode("latin-1")
        return Asked(
            request=request,
            visitor=visitor,
            target=target,
            upstream=upstream,
            place=place,
            secret=door.secret,
            passed=headers.to_application(request, own_token=door.own_token),
            said=headers.said_of(
                client=caller.peer,
                scheme=b"https" if self.secure else b"http",
                host=request.found.get(b"host", b""),
                prefix=place.prefix,
                user=visitor.name.encode(),
            ),
            person=self.counters.person(target.lease_id, asking.request(method, path)),
            since=at,
            cookie=None if door.own_token else routing.remembers(request, place),
        )

    def _carry(self, caller: Caller, asked: Asked) -> None:
        cache = self._cache
        if cache is None or asked.target.endpoint.cache_seconds is None or asked.request.upgrade:
            Exchange(self, caller, asked).start()
            return
        call = _call(asked)
        most = cache.gathers(call, None if asked.request.chunked else asked.request.length)
        if most is None:
            Exchange(self, caller, asked).start()
        elif not asked.request.has_body:
            Held(caller, self._find(caller, asked, cache, call), self.live.waits(asked.target.name))
        else:
            self._gather(caller, asked, cache, call, most)

    # what takes its time

    def _gather(self, caller: Caller, asked: Asked, cache: Cache, call: Call, most: int) -> None:
        limit = asked.target.endpoint.body_max_bytes
        over = self.live.waits(asked.target.name)

        def done(body: bytes, whole: bool) -> None:
            asked.gathered, asked.whole = body, whole
            if limit is not None and len(body) > limit:  # no length had said so
                over()
                caller.refuse(too_large(limit))
            elif whole:
                Held(caller, self._find(caller, asked, cache, call), over)
            else:
                over()
                if not self._overtaken(caller, asked):
                    Exchange(self, caller, asked).start()

        Gathering(caller, most if limit is None else min(most, limit), self.settings.body_seconds, done, over)
        if b"expect" in asked.request.found:
            caller.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        caller.pass_body()

    async def _find(self, caller: Caller, asked: Asked, cache: Cache, call: Call) -> None:
        found = await cache.find(call, asked.gathered)
        if self._overtaken(caller, asked):
            if found is not None and not isinstance(found, Answer):
                found.end(whole=False)
            return
        if isinstance(found, Answer):
            fields = [(name.lower(), name, value) for name, value in found.headers]
            passed = headers.to_client(fields, prefix=asked.place.prefix, upstream=b"")
            count = self.counters.of(asked.target.lease_id)
            count.bytes_in += len(asked.gathered)
            count.bytes_out += len(found.body)
            self.counters.took(asyncio.get_running_loop().time() - asked.since)
            caller.reply(found.status, [(name, value) for _, name, value in passed], found.body)
            return
        if found is not None:
            asked.recorder, asked.marks = found, found.marks
        Exchange(self, caller, asked).start()

    def _overtaken(self, caller: Caller, asked: Asked) -> bool:
        """Whether a call that waited may be carried no longer, or not to there; its caller is told."""
        door = self._doors.at(asked.request, asked.place)
        verdict, target = door.verdict, door.target
        if not self._grants.current:
            caller.refuse(STALE)
        elif isinstance(verdict, Refusal):
            self._refuse(caller, asked.request, verdict, asked.place, target)
        elif verdict != asked.upstream or target is None or target.generation != asked.target.generation:
            words = f"Lease {asked.target.name!r} was started anew meanwhile; ask again."
            caller.refuse(Problem(503, "not_running", words, retry=1))
        else:
            return False
        return True

    async def _wake(self, caller: Caller, request: Request, door: Door) -> None:
        assert self._waker is not None, "it has said that it wakes"
        assert door.visitor is not None, "only the known wake"
        assert door.target is not None, "only what there is"
        problem = await self._waker.wake(door.visitor, door.target)
        if problem is None:
            self.begin(caller, request, woken=True)
        else:
            caller.refuse(problem)

    async def _enter(self, caller: Caller, place: Place, target: Target | None) -> None:
        answer = await entering.enter(
            place,
            target,
            grants=self._grants,
            sessions=self._sessions,
            hours=self.settings.cookie_hours,
            secure=self.secure,
        )
        if isinstance(answer, Problem):
            caller.refuse(answer)
        else:
            caller.reply(303, answer)

    def _refuse(
        self, caller: Caller, request: Request, refusal: Refusal, place: Place, target: Target | None
    ) -> None:
        status, code, words = refusal.value
        if refusal is Refusal.NOT_SIGNED_IN and b"text/html" in request.found.get(b"accept", b""):
            link = f"{self._api_url}/open/{place.name}"
            page = f'<!doctype html><title>Sign in</title><p>Sign in to open this: <a href="{link}">{link}</a></p>'
            plain = [(b"Content-Type", b"text/html; charset=utf-8"), (b"Cache-Control", b"no-store")]
            caller.reply(401, plain, page.encode())
            return
        facts = {
            "name": place.name,
            "state": target.state if target else "",
            "message": target.message if target else "",
        }
        caller.refuse(Problem(status, code, words.format(**facts), retry=2 if status == 503 else None))


def _inside(host: str, networks: Sequence[Network]) -> bool:
    address = ipaddress.ip_address(host)
    return any(address in network for network in networks)


def _call(asked: Asked) -> Call:
    return Call(
        asked.visitor,
        asked.target,
        asked.request.method.decode(),
        asked.place.path.decode("latin-1"),
        [(name, value) for _, name, value in asked.passed.fields],
    )
