"""A caller's connection: its requests one after the other, each handed to the plane and then to what carries it."""

from __future__ import annotations

import asyncio
import socket
from http import HTTPStatus
from typing import Protocol, cast

from api.gateway.carried import FromCaller
from api.gateway.problems import Problem
from api.gateway.wire import front, requests
from api.gateway.wire.message import Body, Counted, Malformed
from api.gateway.wire.requests import Request
from leasing.settings.gateway import GatewaySettings

HIGH_WATER = 256 * 1024
"""Bytes that wait to be taken before the application is held up."""
AHEAD = 64 * 1024
"""Bytes that a caller may be ahead of what is asked of it; then nothing more is read."""
LINGER_BYTES, LINGER_SECONDS, LINGER_TLS_SECONDS = 1024 * 1024, 5.0, 1.0
"""What may still come after the last answer: closing at once would take that answer from the caller's hands."""
FLUSH_SECONDS = 30.0
NEVER = float("inf")
NOTHING = Counted(0)
PROBE_SECONDS = 10
"""Of a caller that sends no more, its machine is asked so often whether it is there at all."""
TCP_CLOSED = 7


class Desk(Protocol):
    """Who decides about requests."""

    settings: GatewaySettings
    secure: bool
    fronted: bool

    def begin(self, caller: Caller, request: Request) -> None:
        """Answer it, or have it carried (`Caller.carried_by`)."""

    def opened(self, caller: Caller) -> bool:
        """Whether there is room for it."""

    def closed(self, caller: Caller) -> None: ...


class Caller(asyncio.Protocol):
    """One connection. `deadline` is looked at by the plane's sweep, in the loop's time."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._request: Request | None = None
        self._body: Body = NOTHING
        self._call: FromCaller | None = None
        self._passing = False
        self._paused = False
        self._advancing = False
        self._tunnel = False
        self._ending = False
        self._half = False
        self._probed = False
        self._lingering = 0
        self._unsent = 0
        self._fronted = desk.fronted
        self.full = False
        """It takes no more for now. Said to a call once, when that begins (`FromCaller.full`)."""
        self.peer = b""
        self.deadline = NEVER

    @property
    def transport(self) -> asyncio.Transport:
        assert self._transport is not None, "connected before it is used"
        return self._transport

    # for what carries the request

    def carried_by(self, call: FromCaller) -> None:
        """`call` is told of what follows, until `finish`."""
        self._call = call

    def pass_body(self) -> None:
        """Tell the call of the body, as it comes."""
        self._passing = True
        self._resume()
        if not self._advancing:
            self._advance()

    def hold_body(self) -> None:
        """No more of it for now."""
        self._passing = False

    def hold(self) -> None:
        """Read no more for now, of a tunnel."""
        self._pause()

    def go_on(self) -> None:
        self._resume()

    def write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

    def tunnel(self) -> None:
        """From here on, bytes are bytes."""
        self._tunnel = True
        self._resume()
        left, self._buffer = self._buffer, b""
        if left and self._call is not None:
            self._call.through(left)

    def finish(self, *, keep: bool) -> None:
        """The answer has been written. `keep`: another request may follow it."""
        request, body = self._request, self._body
        self._call, self._request, self._passing = None, None, False
        whole = request is not None and body.done and not body.excess
        if not (keep and whole and request is not None and request.keep):
            self._end(gently=not whole or bool(self._buffer))
            return
        settings = self._desk.settings
        self.deadline = self.loop.time() + (settings.idle_seconds if self.full else settings.keep_seconds)
        if not self._advancing:
            self._advance()

    def abort(self) -> None:
        """Cut it so that nobody takes it for an end."""
        self._call = None
        self._ending = True
        if self._transport is not None:
            self._transport.abort()

    def shut(self) -> None:
        """Say that no more comes, through a tunnel."""
        if self._transport is not None and not self._transport.is_closing():
            if self._transport.can_write_eof():
                self._transport.write_eof()
            else:
                self._transport.close()

    def refuse(self, problem: Problem) -> None:
        page = problem.retry is not None and self._request is not None and self._request.opens_page
        body = problem.page() if page else problem.body()
        self.reply(problem.status, problem.headers(page=page), body, close=problem.close)

    def reply(
        self, status: int, headers: list[tuple[bytes, bytes]], body: bytes = b"", *, close: bool = False
    ) -> None:
        """Answer the request without an application."""
        request = self._request
        keep = not close and request is not None and request.keep and self._skim()
        head = [b"HTTP/1.1 %d %b\r\n" % (status, _phrase(status))]
        head += [b"%b: %b\r\n" % one for one in headers]
        head.append(b"Content-Length: %d\r\n" % len(body))
        if not keep:
            head.append(b"Connection: close\r\n")
        head.append(b"\r\n")
        if request is None or request.method != b"HEAD":
            head.append(body)
        self.write(b"".join(head))
        self.finish(keep=keep)

    def _skim(self) -> bool:
        """Whether all of the body is there already, so that the next request can be told from it."""
        if not self._body.done and self._buffer:
            try:
                _, self._buffer = self._body.feed(self._buffer)
            except Malformed:
                return False
        return self._body.done and not self._body.excess

    # what asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        address = transport.get_extra_info("peername")
        self.peer = str(address[0]).encode() if isinstance(address, tuple) else b""
        self.deadline = self.loop.time() + self._desk.settings.header_seconds
        if not self._desk.opened(self):
            self.refuse(
                Problem(
                    503,
                    "too_many",
                    "The gateway holds as many connections as it may (LEASING_GATEWAY_CONNECTIONS); try again shortly.",
                    retry=2,
                    close=True,
                )
            )

    def data_received(self, data: bytes) -> None:
        if self._tunnel:
            if self._call is not None:
                self._call.through(data)
            return
        if self._ending:
            self._lingering -= len(data)
            if self._lingering < 0:
                self.abort()
            return
        self._buffer = self._buffer + data if self._buffer else data
        if not self._advancing:
            self._advance()

    def eof_received(self) -> bool:
        if self._tunnel and self._call is not None and not self._desk.secure:
            self._call.through_ended()
            return True
        waits = self._call is not None or (self.full and self._buffer)
        if not waits or self._ending or self._desk.secure:
            return False
        if not self._body.done and not self._buffer:
            return False  # the rest of the body never comes
        self._half = True
        self._probe()
        return True

    def connection_lost(self, _: Exception | None) -> None:
        self._desk.closed(self)
        self.deadline = NEVER
        call, self._call = self._call, None
        if call is not None:
            call.lost()

    def pause_writing(self) -> None:
        self.full = True
        if self._call is not None:
            self._call.full()

    def resume_writing(self) -> None:
        self.full = False
        if self._call is not None:
            self._call.drained()
        elif not (self._ending or self._advancing):
            self.deadline = self.loop.time() + self._desk.settings.keep_seconds
            self._advance()

    # reading requests

    def _advance(self) -> None:
        """As far as what has come allows."""
        self._advancing = True
        try:
            while not self._ending:
                if self._call is None:
                    # whoever does not take the last answer has no other one made
                    if self.full or not (self._buffer or self._half) or not self._next():
                        break
                elif not self._passing or not self._pass():
                    break
        finally:
            self._advancing = False
        if len(self._buffer) > AHEAD and not self._ending:
            self._pause()
        elif self._paused:
            self._resume()

    def _next(self) -> bool:
        """Read the next request's head and have it decided. False: there is none yet."""
        try:
            if self._fronted and not self._read_front():
                return False
            if self._buffer.startswith(b"\r\n"):
                self._buffer = self._buffer[2:]  # an old habit of some, after a body
            length = requests.head_length(self._buffer)
            if not length:
                self._await_head()
                return False
            request = requests.parse(self._buffer[:length])
        except Malformed as error:
            self.refuse(Problem(error.status, "malformed", str(error), close=True))
            return False
        self._buffer = self._buffer[length:]
        self._request, self._body = request, request.body()
        self.deadline = NEVER
        self._desk.begin(self, request)
        return True

    def _read_front(self) -> bool:
        found = front.parse(self._buffer)
        if found is None:
            return False
        address, self._buffer = found
        self.peer = address or self.peer
        self._fronted = False
        return True

    def _await_head(self) -> None:
        if self._half:
            self._end(gently=False)
        elif self._buffer:
            # from its first byte on: whoever sends one now and then gains nothing by it
            self.deadline = min(self.deadline, self.loop.time() + self._desk.settings.header_seconds)

    def _pass(self) -> bool:
        """Tell the call of the body that is there. False: nothing is left to do for now."""
        call, body = self._call, self._body
        assert call is not None, "what is asked is carried"
        if body.done:
            self._passing = False
            return False
        if not self._buffer:
            if self._half:
                self.transport.close()  # and what carries it is told
            self._resume()
            return False
        data, self._buffer = self._buffer, b""
        try:
            part, rest = body.feed(data)
        except Malformed as error:
            self._passing = False
            call.malformed(str(error), error.status)
            return False
        self._buffer = rest
        if part:
            call.body(part)
        if self._body.done and self._call is call:
            self._passing = False
            call.body_ended(body.trailers)
        return True

    # the end

    def _end(self, *, gently: bool) -> None:
        """Close it once all is written; `gently`: the caller is still sending, and is to read the answer first."""
        self._ending = True
        self._buffer = b""
        now = self.loop.time()
        if gently and not self.transport.is_closing():
            self._lingering = LINGER_BYTES
            self._resume()
            # TLS has no half-closed side: its caller waits for the end
            shuts = self.transport.can_write_eof()
            self.deadline = now + (LINGER_SECONDS if shuts else LINGER_TLS_SECONDS)
            if shuts:
                self.transport.write_eof()
            return
        self._unsent = self.transport.get_write_buffer_size()
        self.deadline = now + FLUSH_SECONDS
        self.transport.close()

    def overdue(self) -> None:
        """The deadline has passed."""
        self.deadline = NEVER
        if self._call is not None:
            self._call.overdue()
        elif self._buffer and not (self._ending or self.full):
            seconds = self._desk.settings.header_seconds
            self.refuse(
                Problem(
                    408,
                    "too_slow",
                    f"The head of a request has {seconds:g} s (LEASING_GATEWAY_HEADER_SECONDS).",
                    close=True,
                )
            )
        elif self._ending:
            before, self._unsent = self._unsent, self.transport.get_write_buffer_size()
            if self._unsent < before:  # it takes the last of its answer slowly
                self.deadline = self.loop.time() + FLUSH_SECONDS
            else:
                self.abort()
        else:
            self._end(gently=False)

    @property
    def gone(self) -> bool:
        """Of one that sends no more: whether nobody is there to read the answer either."""
        if not self._probed or self._transport is None:
            return False
        plain = self._transport.get_extra_info("socket")
        return bool(plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_CLOSED)

    def _probe(self) -> None:
        plain = self.transport.get_extra_info("socket")
        if plain.family == socket.AF_UNIX:
            return  # the proxy in front knows its callers
        self._probed = True
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
            plain.setsockopt(socket.IPPROTO_TCP, option, PROBE_SECONDS)

    def _pause(self) -> None:
        if not self._paused and not self.transport.is_closing():
            self._paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""
