"""The built-in data plane: bytes between callers and containers, streamed both ways."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta

import aiohttp
from aiohttp import WSMsgType, web
from fastapi.concurrency import run_in_threadpool
from multidict import CIMultiDict
from yarl import URL

from api.gateway import asking, headers
from api.gateway.authorise import Refusal, Upstream, authorise
from api.gateway.grants import Grants, Target, Visitor
from api.gateway.traffic import FRAMES, PACKETS, Counters
from leasing.database import Sessions, now
from leasing.errors import NotSignedIn
from leasing.service import tickets
from leasing.settings.gateway import GatewaySettings
from leasing.states import LeaseState

log = logging.getLogger(__name__)
COOKIE = "leasing_endpoint"
ENTER = "/.leasing/enter"
CHUNK = 64 * 1024
WATCH_SECONDS = 0.25
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Socket = aiohttp.ClientWebSocketResponse | web.WebSocketResponse


class Plane:
    """One aiohttp application. Everything under `/l/<lease>/` is the lease's own; nothing else is served."""

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
    ) -> None:
        """`networks` are where containers live: no upstream outside them is ever connected to."""
        self._grants = grants
        self._counters = counters
        self._sessions = sessions
        self._settings = settings
        self._api_url = api_url
        self._secure = secure
        self._networks = tuple(networks)
        self._client: aiohttp.ClientSession | None = None

    def app(self) -> web.Application:
        app = web.Application(client_max_size=0)
        app.cleanup_ctx.append(self._connected)
        app.router.add_route("*", "/{tail:.*}", self._serve)
        return app

    async def _connected(self, _: web.Application) -> AsyncIterator[None]:
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=self._settings.connect_seconds, sock_read=self._settings.idle_seconds
        )
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=15),
            timeout=timeout,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        ) as self._client:
            yield

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if not self._grants.current:
            return _problem(
                503, "unavailable", "The gateway cannot confirm who may come in; try again shortly."
            )
        path = request.raw_path
        if not path.startswith("/l/"):
            return _problem(404, "not_found", "Endpoints are under /l/<lease>/.")
        name, slash, rest = path.removeprefix("/l/").partition("/")
        name, mark, query = name.partition("?")
        target = self._grants.target(name)
        if slash and f"/{rest}".split("?", 1)[0] == ENTER:
            return await self._enter(request, target)
        visitor, own_token = self._visitor(request)
        verdict = authorise(visitor, target)
        if isinstance(verdict, Refusal):
            return self._refuse(request, verdict, name, target)
        assert visitor is not None, "only the known are let in"
        assert target is not None, "only to what there is"
        if not slash:
            return web.Response(
                status=308, headers={"Location": f"/l/{name}/" + (f"?{query}" if mark else "")}
            )
        if not self.inside(verdict.host):
            log.error("upstream outside the leases' networks lease=%s", target.lease_id)
            return _problem(502, "upstream_outside", "The endpoint's address is not in the leases' networks.")
        return await self._carry(request, visitor, target, verdict, f"/{rest}", own_token=own_token)

    def _visitor(self, request: web.Request) -> tuple[Visitor | None, bool]:
        """Who calls, and whether the Authorization header was ours."""
        moment = datetime.now(UTC)
        scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and (found := self._grants.visitor(secret.strip(), moment)):
            return found, True
        cookie = headers.cookie_values(request.headers.getall("Cookie", ()), COOKIE)
        return (self._grants.visitor(cookie, moment) if cookie else None), False

    def inside(self, host: str) -> bool:
        """Whether the address is in the leases' networks."""
        address = ipaddress.ip_address(host)
        return any(address in network for network in self._networks)

    def _refuse(
        self, request: web.Request, refusal: Refusal, name: str, target: Target | None
    ) -> web.Response:
        status, code, words = refusal.value
        facts = {
            "name": name[:40],
            "state": target.state if target else "",
            "message": target.message if target else "",
        }
        if refusal is Refusal.NOT_SIGNED_IN and "text/html" in request.headers.get("Accept", ""):
            link = f"{self._api_url}/open/{name[:40]}" if name.replace("-", "").isalnum() else self._api_url
            page = f'<!doctype html><title>Sign in</title><p>Sign in to open this: <a href="{link}">{link}</a></p>'
            return web.Response(status=401, text=page, content_type="text/html")
        return _problem(status, code, words.format(**facts))

    async def _enter(self, request: web.Request, target: Target | None) -> web.StreamResponse:
        """A ticket from the pages becomes a cookie for this one lease."""
        if target is None:
            return _problem(404, "not_found", "There is no such lease.")
        ticket = request.query.get("ticket", "")

        def redeem() -> str:
            with self._sessions.begin() as session:
                lasts = timedelta(hours=self._settings.cookie_hours)
                return tickets.redeem(session, ticket, target.lease_id, lasts=lasts, now=now(session))

        try:
            secret = await run_in_threadpool(redeem)
        except NotSignedIn as error:
            return _problem(401, error.code, str(error))
        await run_in_threadpool(self._grants.load)  # so that the very next call finds it
        answer = web.Response(status=303, headers={"Location": f"/l/{target.name}/"})
        answer.set_cookie(
            COOKIE, secret, path=f"/l/{target.name}/", httponly=True, samesite="Lax", secure=self._secure,
            max_age=int(self._settings.cookie_hours * 3600),
        )  # fmt: skip
        return answer

    async def _carry(
        self,
        request: web.Request,
        visitor: Visitor,
        target: Target,
        upstream: Upstream,
        path: str,
        *,
        own_token: bool,
    ) -> web.StreamResponse:
        prefix = f"/l/{target.name}"
        passed = headers.to_upstream(
            request.headers,
            client=request.remote or "",
            scheme="https" if self._secure else "http",
            prefix=prefix,
            user=visitor.name,
            own_token=own_token,
        )
        url = URL(f"http://{upstream.host}:{upstream.port}{path}", encoded=True)
        self._counters.of(target.lease_id).requests += 1
        person = self._counters.person(target.lease_id, asking.request(request.method, path))
        work = asyncio.ensure_future(
            self._websocket(request, url, passed, target)
            if _wants_websocket(request)
            else self._http(request, url, passed, target, prefix, person=person)
        )
        watch = asyncio.ensure_future(self._until_over(target))
        try:
            await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                if request.transport is not None:
                    request.transport.abort()  # a stream cut short must not look like one that ended
            return await work
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            return _problem(
                502,
                "no_answer",
                f"Nothing listens on port {upstream.port} of lease {target.name!r}. If the application runs, it may be "
                f"listening on the container's 127.0.0.1 only: let it bind 0.0.0.0:{upstream.port}.",
            )
        except (aiohttp.ClientError, TimeoutError) as error:
            return _problem(502, "bad_answer", f"The application broke off: {type(error).__name__}.")
        finally:
            watch.cancel()
            if not work.done():
                work.cancel()

    async def _until_over(self, target: Target) -> None:
        """Returns when the lease no longer runs, or its container moved: what streams from it then is cut."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            current = self._grants.target(target.name)
            if current is None or current.state != LeaseState.RUNNING or current.address != target.address:
                return

    async def _http(
        self,
        request: web.Request,
        url: URL,
        passed: CIMultiDict[str],
        target: Target,
        prefix: str,
        *,
        person: bool,
    ) -> web.StreamResponse:
        assert self._client is not None, "connected for as long as the application serves"
        body = self._sent(request, target) if request.can_read_body else None
        if body is not None and request.content_length is not None:
            passed["Content-Length"] = str(request.content_length)
        async with self._client.request(
            request.method, url, headers=passed, data=body, allow_redirects=False
        ) as answer:
            response = web.StreamResponse(
                status=answer.status,
                reason=answer.reason,
                headers=headers.to_client(answer.headers, prefix=prefix, upstream=f"{url.host}:{url.port}"),
            )
            await response.prepare(request)
            if not person:
                own = PACKETS + headers.size(passed) + headers.size(answer.headers)
                self._counters.of(target.lease_id).own_bytes += own
            async for chunk in answer.content.iter_any():
                count = self._counters.of(target.lease_id)
                count.bytes_out += len(chunk)
                count.own_bytes += 0 if person else len(chunk)
                await response.write(chunk)
            await response.write_eof()
            return response

    async def _sent(self, request: web.Request, target: Target) -> AsyncIterator[bytes]:
        async for chunk in request.content.iter_chunked(CHUNK):
            count = self._counters.of(target.lease_id)
            count.bytes_in += len(chunk)
            count.asked = max(1, count.asked)  # a long upload is activity for as long as it takes
            yield chunk

    async def _websocket(
        self, request: web.Request, url: URL, passed: CIMultiDict[str], target: Target
    ) -> web.StreamResponse:
        assert self._client is not None, "connected for as long as the application serves"
        protocols = [
            one.strip() for one in request.headers.get("Sec-WebSocket-Protocol", "").split(",") if one.strip()
        ]
        for name in (*headers.WEBSOCKET, "sec-websocket-protocol"):
            passed.popall(name, None)
        async with self._client.ws_connect(
            url, headers=passed, protocols=protocols, max_msg_size=0, autoping=False, autoclose=False
        ) as inner:
            chosen = [inner.protocol] if inner.protocol else []
            outer = web.WebSocketResponse(protocols=chosen, max_msg_size=0, autoping=False, autoclose=False)
            await outer.prepare(request)

            def sent(data: str | bytes) -> None:
                person = self._counters.person(target.lease_id, asking.message(url.path, data))
                count = self._counters.of(target.lease_id)
                count.bytes_in += len(data)
                count.own_bytes += 0 if person else FRAMES + len(data)

            def received(data: str | bytes) -> None:
                self._counters.of(target.lease_id).bytes_out += len(data)

            down = asyncio.ensure_future(_relay(inner, outer, received))
            up = asyncio.ensure_future(_relay(outer, inner, sent))
            try:
                await asyncio.wait({down, up}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (down, up):
                    task.cancel()
                await asyncio.gather(down, up, return_exceptions=True)
            return outer


async def _relay(source: Socket, sink: Socket, counted: Callable[[str | bytes], None]) -> None:
    """Messages from one side to the other, until one side closes; the close code goes along."""
    while True:
        message = await source.receive()
        match message.type:
            case WSMsgType.TEXT:
                counted(message.data)
                await sink.send_str(message.data)
            case WSMsgType.BINARY:
                counted(message.data)
                await sink.send_bytes(message.data)
            case WSMsgType.PING:
                await sink.ping(message.data)
            case WSMsgType.PONG:
                await sink.pong(message.data)
            case WSMsgType.CLOSE:
                await sink.close(code=message.data or 1000, message=(message.extra or "").encode())
                await source.close(code=message.data or 1000)
                return
            case _:
                await sink.close(code=source.close_code or 1011)
                return


def _wants_websocket(request: web.Request) -> bool:
    return (
        request.method == "GET"
        and request.headers.get("Upgrade", "").lower() == "websocket"
        and "upgrade" in request.headers.get("Connection", "").lower()
    )


def _problem(status: int, code: str, detail: str) -> web.Response:
    body = {"type": f"urn:leasing:{code}", "title": code, "status": status, "code": code, "detail": detail}
    extra = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "2"}}.get(status, {})
    return web.Response(
        status=status, text=json.dumps(body), content_type="application/problem+json", headers=extra
    )
