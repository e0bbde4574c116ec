"""Connections to applications: kept for the next call to the same lease, never for another one's."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Collection
from typing import cast
from uuid import UUID

from api.gateway.authorise import Upstream
from api.gateway.carried import FromApplication
from api.gateway.wire import responses
from api.gateway.wire.message import Body, Malformed, UntilClosed

KEPT_SECONDS = 1.5
"""A connection is kept so long. Servers close theirs after two seconds or more; a call that crosses that is lost."""
KEPT_MOST = 128
"""So many of one lease."""
HIGH_WATER = 256 * 1024
"""Bytes that wait to be taken before the other side is held up."""

Key = tuple[int, str, int]
"""Lease, address, port: one day an address is another lease's, and nothing of the last may be in the pipe then."""


class Application(asyncio.Protocol):
    """A connection to an application. Carries one call at a time."""

    def __init__(self, pool: Pool, key: Key) -> None:
        self._pool = pool
        self.key = key
        self.used = 0
        """Calls that it has carried to their end."""
        self.since = 0.0
        """When it was last given back."""
        self.heard_all = False
        """The call's body has been written to its end."""
        self._held = False
        self._call: FromApplication | None = None
        self._method = b""
        self._buffer = b""
        self._body: Body | None = None
        self._tunnel = False
        self._keep = False
        self._transport: asyncio.Transport | None = None

    @property
    def transport(self) -> asyncio.Transport:
        assert self._transport is not None, "connected before it is used"
        return self._transport

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def busy(self) -> bool:
        """Whether it carries a call."""
        return self._call is not None

    def begin(self, call: FromApplication, method: bytes) -> None:
        """From here on, `call` is told what comes back."""
        self._call, self._method, self._body, self._buffer = call, method, None, b""
        self.heard_all = False

    def handed_to(self, call: FromApplication) -> None:
        """Another is told from here on."""
        self._call = call

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def tunnel(self) -> None:
        """From here on what comes back is told as it comes. Only after an answer 101."""
        self._tunnel = True
        left, self._buffer = self._buffer, b""
        if left and self._call is not None:
            self._call.back(left)

    def hold(self) -> None:
        """Read no more for now."""
        if not self._held and self.usable:
            self._held = True
            self.transport.pause_reading()

    def go_on(self) -> None:
        if self._held and self.usable:
            self._held = False
            self.transport.resume_reading()

    def shut(self) -> None:
        """Say that no more comes, through a tunnel."""
        if self.usable:
            self.transport.write_eof()

    def close(self) -> None:
        """End it once all is written."""
        self._call = None
        if self._transport is not None:
            self._transport.close()

    def drop(self) -> None:
        """End it without a word; its call is told nothing more."""
        self._call = None
        if self._transport is not None:
            self._transport.abort()

    # what asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        self._pool.opened.add(self)

    def data_received(self, data: bytes) -> None:
        call = self._call
        if call is None:
            self.drop()  # nobody has asked for that
            return
        if self._tunnel:
            call.back(data)
            return
        try:
            self._read(call, data)
        except Malformed as error:
            self._break(f"its answer cannot be read: {error}", True)

    def eof_received(self) -> bool:
        if self._tunnel and self._call is not None:
            self._call.back_ended()
            return True
        return False  # closes, and connection_lost says the rest

    def connection_lost(self, error: Exception | None) -> None:
        self._pool.gone(self)
        call, self._call = self._call, None
        if call is None:
            return
        if self._tunnel:
            call.broken("it closed", True)
        elif self._body is not None and isinstance(self._body, UntilClosed) and error is None:
            call.ended([])
        else:
            call.broken("it closed the connection", self._body is not None or bool(self._buffer))

    def pause_writing(self) -> None:
        if self._call is not None:
            self._call.filled()

    def resume_writing(self) -> None:
        if self._call is not None:
            self._call.ready()

    # reading an answer

    def _read(self, call: FromApplication, data: bytes) -> None:
        while self._body is None:
            if self._buffer:
                data, self._buffer = self._buffer + data, b""
            length = responses.head_length(data)
            if not length:
                self._buffer = data
                return
            response = responses.parse(data[:length], method=self._method)
            data = data[length:]
            if response.interim:
                continue
            self._body, self._keep = response.body(), response.keep
            if response.status == 101:
                self._buffer = data
                call.answered(response)
                return
            call.answered(response)
        body = self._body
        rest = b""
        if data and not body.done:
            part, rest = body.feed(data)
            if part:
                call.part(part)
        elif data:
            rest = data
        if not body.done:
            call.flush()
        elif self._call is call:
            self._done(call, excess=bool(rest) or body.excess)

    def _done(self, call: FromApplication, *, excess: bool) -> None:
        assert self._body is not None, "an answer that ends has begun"
        trailers = self._body.trailers
        self._call = None
        self.used += 1
        if self._keep and self.heard_all and not excess:
            self.go_on()
            self._pool.give_back(self)
        else:
            self.transport.close()
        call.ended(trailers)

    def _break(self, words: str, heard: bool) -> None:
        call = self._call
        self.drop()
        if call is not None:
            call.broken(words, heard)


class Pool:
    """Every connection to an application, and those that wait for a call."""

    def __init__(self, connect_seconds: float) -> None:
        self._connect_seconds = connect_seconds
        self._kept: dict[Key, deque[Application]] = {}
        self.opened: set[Application] = set()

    def take(self, key: Key) -> Application | None:
        """A connection that waits; the one used last, for the others may be left to end."""
        kept = self._kept.get(key)
        if not kept:
            return None
        oldest = asyncio.get_running_loop().time() - KEPT_SECONDS
        while kept:
            one = kept.pop()
            if one.usable and one.since > oldest:
                return one
            one.transport.close()
        return None

    async def connect(self, key: Key) -> Application:
        """A new one. Raises `OSError`, `TimeoutError`."""
        async with asyncio.timeout(self._connect_seconds):
            _, made = await asyncio.get_running_loop().create_connection(
                lambda: Application(self, key), key[1], key[2]
            )
        return made

    def give_back(self, one: Application) -> None:
        kept = self._kept.setdefault(one.key, deque())
        if len(kept) >= KEPT_MOST:
            one.transport.close()
            return
        one.since = asyncio.get_running_loop().time()
        kept.append(one)

    def gone(self, one: Application) -> None:
        self.opened.discard(one)
        if kept := self._kept.get(one.key):
            with contextlib.suppress(ValueError):
                kept.remove(one)

    def sweep(self, at: float, live: Collection[Key]) -> None:
        """End those that have waited long enough, and all of leases that listen no longer (`live` are the others)."""
        for key in list(self._kept):
            kept = self._kept[key]
            while kept and (key not in live or kept[0].since <= at - KEPT_SECONDS):
                kept.popleft().transport.close()
            if not kept:
                del self._kept[key]

    def close(self) -> None:
        for one in list(self.opened):
            one.drop()


def key_of(lease_id: UUID, upstream: Upstream) -> Key:
    return lease_id.int, upstream.host, upstream.port
