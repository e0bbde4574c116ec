"""One call and its answer, carried between a caller's connection and an application's as the bytes come."""

from __future__ import annotations

import asyncio
import time
from enum import Enum, auto
from typing import Protocol

from api.gateway import headers
from api.gateway.asked import Asked
from api.gateway.callers import NEVER, Caller
from api.gateway.live import Live
from api.gateway.problems import Problem, not_listening
from api.gateway.traffic import PACKETS, Counters
from api.gateway.tunnel import Tunnel
from api.gateway.upstreams import Application, Pool
from api.gateway.wire import responses
from api.gateway.wire.message import Field, chunk
from api.gateway.wire.responses import Response
from leasing.settings.gateway import GatewaySettings


class Means(Protocol):
    """What carrying takes."""

    settings: GatewaySettings
    pool: Pool
    counters: Counters
    live: Live


class Phase(Enum):
    """How far a call has come."""

    CONNECTING = auto()
    SENDING = auto()
    """Its body comes from the caller and goes to the application."""
    WAITING = auto()
    """The application has all of it and has said nothing yet."""
    ANSWERING = auto()
    OVER = auto()


class Exchange:
    """Told by both connections what happens; tells each what to do."""

    __slots__ = (
        "_again",
        "_caller",
        "_chunking",
        "_connecting",
        "_head",
        "_loop",
        "_means",
        "_out",
        "_phase",
        "_received",
        "_sent_all",
        "_up",
        "asked",
    )  # fmt: skip

    def __init__(self, means: Means, caller: Caller, asked: Asked) -> None:
        self.asked = asked
        self._means = means
        self._caller = caller
        self._loop = caller.loop
        self._phase = Phase.CONNECTING
        self._up: Application | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._head = b""
        self._chunking = False
        self._again = False
        self._sent_all = False
        self._out: list[bytes] = []
        self._received = len(asked.gathered)

    def start(self) -> None:
        self._means.live.add(self)
        self._caller.carried_by(self)
        self._head = self.asked.head()
        if (kept := self._means.pool.take(self.asked.key)) is not None:
            self._attach(kept)
        else:
            self._connecting = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            made = await self._means.pool.connect(self.asked.key)
        except (OSError, TimeoutError):
            target, age = self.asked.target, time.time() - self.asked.target.started
            self._fail(not_listening(target.name, self.asked.upstream.port, age))
            return
        if self._phase is Phase.OVER:
            made.drop()
        else:
            self._attach(made)

    def _attach(self, up: Application) -> None:
        asked = self.asked
        self._up = up
        up.begin(self, asked.request.method)
        if self._caller.full:
            up.hold()
        up.write(self._head)
        if asked.gathered:
            up.write(chunk(asked.gathered) if asked.request.chunked and not asked.whole else asked.gathered)
            self._count_in(len(asked.gathered))
        if not asked.has_body:
            self._await_answer()
            return
        self._phase = Phase.SENDING
        self._caller.deadline = self._loop.time() + self._means.settings.body_seconds
        if b"expect" in asked.request.found and not asked.gathered:
            self._caller.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._caller.pass_body()

    def _await_answer(self) -> None:
        """All is said; the application's time runs."""
        self._sent_all = True
        if self._up is not None:
            self._up.heard_all = True
        if self._phase is not Phase.ANSWERING:
            self._phase = Phase.WAITING
            seconds = self.asked.target.endpoint.timeout_seconds or self._means.settings.idle_seconds
            self._caller.deadline = self._loop.time() + seconds

    # from the caller

    def body(self, part: bytes) -> None:
        up = self._up
        if up is None or self._phase is Phase.OVER:
            return
        self._received += len(part)
        most = self.asked.target.endpoint.body_max_bytes
        if most is not None and self._received > most:
            self._fail(too_large(most))
            return
        self._count_in(len(part))
        if self._phase is Phase.SENDING:
            self._caller.deadline = self._loop.time() + self._means.settings.body_seconds
        up.write(chunk(part) if self.asked.request.chunked else part)

    def body_ended(self, trailers: list[Field]) -> None:
        if self._up is None or self._phase is Phase.OVER:
            return
        if self.asked.request.chunked:
            self._up.write(b"0\r\n" + headers.written(headers.trailed(trailers)) + b"\r\n")
        self._await_answer()

    def malformed(self, words: str, status: int) -> None:
        self._fail(Problem(status, "malformed", words, close=True))

    def full(self) -> None:
        if self._up is not None:
            self._up.hold()

    def drained(self) -> None:
        if self._up is not None:
            self._up.go_on()

    def lost(self) -> None:
        self._drop()
        self._over(whole=False)

    def overdue(self) -> None:
        settings, options = self._means.settings, self.asked.target.endpoint
        if self._phase is Phase.SENDING:
            words = (
                f"Nothing came of the body for {settings.body_seconds:g} s (LEASING_GATEWAY_BODY_SECONDS)."
            )
            self._fail(Problem(408, "too_slow", words, close=True))
        elif self._phase is Phase.WAITING and options.timeout_seconds:
            words = (
                f"The application did not begin to answer within {options.timeout_seconds} s, which lease "
                f"{self.asked.target.name!r} allows: lease endpoint {self.asked.target.name} --timeout …"
            )
            self._fail(Problem(504, "timeout", words))
        else:
            words = f"Nothing moved for {settings.idle_seconds:g} s (LEASING_GATEWAY_IDLE_SECONDS)."
            self._fail(Problem(504, "timeout", words))

    def through(self, data: bytes) -> None: ...

    def through_ended(self) -> None: ...

    # from the application

    def answered(self, response: Response) -> None:
        asked, up = self.asked, self._up
        if up is None or self._phase is Phase.OVER:
            return
        if response.status == 101:
            self._upgraded(response, up)
            return
        prefix, upstream = asked.place.prefix, b"%b:%d" % (asked.upstream.host.encode(), asked.upstream.port)
        if not asked.person:
            own = PACKETS + len(asked.passed.wire) + response.size
            self._means.counters.of(asked.target.lease_id).own_bytes += own
        if asked.recorder is not None and not asked.recorder.head(
            response.status,
            response.reason.decode("latin-1"),
            [(name, value) for lower, name, value in response.fields if lower not in headers.FRAMED],
        ):
            self._stop_recording()
        lines = [headers.answered(response, prefix, upstream)]
        if asked.cookie is not None:
            lines.append(b"Set-Cookie: %b\r\n" % asked.cookie)
        lines += [b"%b: %b\r\n" % mark for mark in asked.marks]
        lines.append(self._framing(response))
        if not asked.request.keep:
            lines.append(b"Connection: close\r\n")
        lines.append(b"\r\n")
        self._phase = Phase.ANSWERING
        self._out = lines

    def _framing(self, response: Response) -> bytes:
        if response.counted:
            length = response.length if response.status != 204 else None
            return b"" if length is None else b"Content-Length: %b\r\n" % length
        self._chunking = self.asked.request.modern
        return b"Transfer-Encoding: chunked\r\n" if self._chunking else b""

    def part(self, part: bytes) -> None:
        if self._phase is Phase.OVER:
            return
        count = self._means.counters.of(self.asked.target.lease_id)
        count.bytes_out += len(part)
        if not self.asked.person:
            count.own_bytes += len(part)
        recorder = self.asked.recorder
        if recorder is not None and not recorder.data(part):
            self._stop_recording()
        if self._chunking:
            self._out += (b"%x\r\n" % len(part), part, b"\r\n")
        else:
            self._out.append(part)

    def flush(self) -> None:
        if self._out:
            self._moved()
            self._caller.write(b"".join(self._out))
            self._out = []

    def ended(self, trailers: list[Field]) -> None:
        if self._phase is Phase.OVER:
            return
        self._up = None  # it has gone back to wait for another call
        if self._chunking:
            self._out.append(b"0\r\n" + headers.written(headers.trailed(trailers)) + b"\r\n")
        self.flush()
        self._over(whole=True)
        self._caller.finish(keep=True)

    def broken(self, words: str, heard: bool) -> None:
        up, self._up = self._up, None
        if self._phase is Phase.OVER:
            return
        stale = up is not None and up.used > 0 and not heard
        if stale and not self._again and self.asked.repeatable and self._phase is Phase.WAITING:
            self._again = True  # it closed a connection that waited just as the call was written to it
            self._phase = Phase.CONNECTING
            self._caller.deadline = NEVER
            self._connecting = self._loop.create_task(self._connect())
            return
        self._fail(Problem(502, "bad_answer", f"The application broke off: {words}."))

    def filled(self) -> None:
        self._caller.hold_body()
        if self._phase is Phase.SENDING:
            self._caller.deadline = self._loop.time() + self._means.settings.idle_seconds

    def ready(self) -> None:
        if self._phase is Phase.SENDING:
            self._caller.deadline = self._loop.time() + self._means.settings.body_seconds
        if not self._sent_all and self._phase is not Phase.OVER:
            self._caller.pass_body()

    def back(self, data: bytes) -> None: ...

    def back_ended(self) -> None: ...

    # the ways it ends

    def cut(self) -> None:
        self._fail(CUT)

    def _fail(self, problem: Problem) -> None:
        """Say so, if nothing was said yet; else break off, for half an answer must not look whole."""
        if self._phase is Phase.OVER:
            return
        begun = self._phase is Phase.ANSWERING
        self._drop()
        self._over(whole=False)
        if begun:
            self._caller.abort()
        else:
            self._caller.refuse(problem)

    def _upgraded(self, response: Response, up: Application) -> None:
        asked = self.asked
        key = asked.request.found.get(b"sec-websocket-key", b"")
        asked_for = asked.request.websocket and response.value(b"sec-websocket-accept") == responses.accepts(
            key
        )
        if not asked_for or response.value(headers.EXTENSIONS) is not None:
            self._fail(
                Problem(502, "bad_answer", "The application changed to a protocol that nobody asked for.")
            )
            return
        fields = headers.to_client(response.fields, prefix=asked.place.prefix, upstream=b"")
        self._up = None
        self._over(whole=True, timed=False)
        tunnel = Tunnel(
            self._caller,
            up,
            asked,
            self._means.counters,
            self._means.live,
            idle_seconds=self._means.settings.idle_seconds,
        )
        self._caller.write(
            b"HTTP/1.1 101 Switching Protocols\r\n"
            + headers.written(fields)
            + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        )
        tunnel.start()

    def _drop(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        up, self._up = self._up, None
        if up is not None:
            up.drop()

    def _over(self, *, whole: bool, timed: bool = True) -> None:
        if self._phase is Phase.OVER:
            return
        self._phase = Phase.OVER
        self._caller.deadline = NEVER
        self._means.live.discard(self)
        self._stop_recording(whole=whole)
        if timed:
            self._means.counters.took(self._loop.time() - self.asked.since)

    def _stop_recording(self, *, whole: bool = False) -> None:
        recorder, self.asked.recorder = self.asked.recorder, None
        if recorder is not None:
            recorder.end(whole=whole)

    def _moved(self) -> None:
        self._caller.deadline = self._loop.time() + self._means.settings.idle_seconds

    def _count_in(self, size: int) -> None:
        count = self._means.counters.of(self.asked.target.lease_id)
        count.bytes_in += size
        count.asked = max(1, count.asked)  # a long upload is activity for as long as it takes


CUT = Problem(
    503,
    "cut_off",
    "The lease, its sharing or the token changed during this call, or the gateway is stopping: ask again.",
    retry=1,
    close=True,
)


def too_large(most: int) -> Problem:
    return Problem(
        413,
        "too_large",
        f"The body is larger than the {most} bytes that this endpoint takes; whoever may change the lease can allow "
        "more: lease endpoint NAME --max-body …",
        close=True,
    )
