"""The proxy in front of the built-in plane: started, kept current with the grants, cut short where it must be, counted.

Either its maps are those of the last view of the grants, or it does not run: a change that it does not confirm ends
it, and it starts anew with the whole of them. Once nobody confirms that they are current, it denies everything.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from api import certificate
from api.gateway.grants import View
from api.gateway.proxy.child import Child, Folder, listening
from api.gateway.proxy.config import Plan
from api.gateway.proxy.entries import Entries, next_expiry
from api.gateway.proxy.runtime import Unanswered
from leasing.host import account
from leasing.settings.core import CoreSettings
from leasing.settings.gateway import GatewaySettings

log = logging.getLogger(__name__)
LONGEST_PAUSE = 10.0
LOOK_SECONDS = 0.2
GRACE_SECONDS = 2.0
"""At the end, what is under way has so long."""


@dataclass(frozen=True)
class Carried:
    """What a lease was asked for and what passed, past the built-in plane."""

    requests: int
    bytes_in: int
    """With headers, unlike what the built-in plane counts."""
    bytes_out: int

    def plus(self, other: Carried) -> Carried:
        return Carried(
            self.requests + other.requests, self.bytes_in + other.bytes_in, self.bytes_out + other.bytes_out
        )

    def since(self, before: Carried) -> Carried:
        """What came on top: all of it, if it is less than before, for then the lease was forgotten in between."""
        more = Carried(
            (self.requests - before.requests) % REQUESTS,
            self.bytes_in - before.bytes_in,
            self.bytes_out - before.bytes_out,
        )
        forgotten = more.requests > REQUESTS // 2 or more.bytes_in < 0 or more.bytes_out < 0
        return self if forgotten else more


NOTHING = Carried(0, 0, 0)
REQUESTS = 2**32
"""With so many the proxy begins at none again; bytes it counts without an end."""


class Front:
    """One proxy. `run` in a thread of its own; `push` is the grants' follower; `carried` is asked now and then."""

    def __init__(
        self,
        settings: CoreSettings,
        gateway: GatewaySettings,
        *,
        networks: Sequence[str],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Opens the public port. Raises `HostError` without HAProxy, or for half of a certificate."""
        self._clock = clock
        allowed = [ipaddress.ip_network(one) for one in networks]
        self._entries = Entries(lambda host: any(ipaddress.ip_address(host) in one for one in allowed))
        self._lock = threading.Lock()
        self._view = View({}, {})
        self._over = False
        self._due: datetime | None = None
        self._counted: dict[int, Carried] = {}
        self._owed: dict[UUID, Carried] = {}
        who = account.for_proxy()
        self._folder = Folder(who)
        self._who = who
        self._socket: socket.socket = listening(settings.listen, settings.gateway_port)
        files = certificate.ensure(settings) if settings.tls else None
        self._plan = Plan(
            folder=self._folder.path,
            descriptor=self._socket.fileno(),
            certificate=self._folder.pem(*files) if files else None,
            networks=networks,
            domain=(settings.gateway_domain or "").lower(),
            threads=gateway.proxy_threads,
            stale_seconds=gateway.stale_seconds,
            connect_seconds=gateway.connect_seconds,
            idle_seconds=gateway.idle_seconds,
            header_seconds=gateway.header_seconds,
            keep_seconds=gateway.keep_seconds,
            connections=gateway.connections,
        )
        self._child = Child(self._plan, self._folder, who)

    @property
    def inner(self) -> Path:
        """The socket on which the built-in plane is to listen, for the proxy alone."""
        return self._plan.inner

    def hand_over(self) -> None:
        """The built-in plane listens: let the proxy's account reach it, and nobody else."""
        self._who.give(self.inner, 0o600)

    def push(self, view: View) -> None:
        """Have the proxy hold this view; returns when it is in force there, or nothing passes there any more."""
        with self._lock:
            now = self._clock()
            self._entries.update(view, now)
            self._view, self._due = view, next_expiry(view.visitors, now)
            if not self._child.alive:
                return
            try:
                self._apply(["set table current key 1 data.gpc0 1"])
            except Unanswered as error:
                log.warning("the proxy is started anew: %s", error)
                self._child.kill()

    def run(self, stop: threading.Event, hint: Callable[[], None] = lambda: None) -> None:
        """Keep it running until `stop`. `hint` asks for a view soon: a new one denies until it has been told one."""
        deaths = 0
        try:
            while not stop.is_set():
                try:
                    self._start()
                    hint()
                    while not stop.is_set() and self._child.wait(LOOK_SECONDS):
                        self._expire()
                        deaths = 0
                except OSError as error:  # unanswered; or no room: for its files, for one process more
                    log.warning("the proxy does not start, or does not answer: %s", error)
                    with self._lock:
                        self._child.kill()
                if not stop.is_set():
                    pause = min(LONGEST_PAUSE, 0.1 * 2.0**deaths)
                    deaths += 1
                    log.warning("the proxy ended and is started again in=%.1fs", pause)
                    stop.wait(pause)
        finally:
            with self._lock:
                with suppress(Unanswered):
                    self._count()
                self._over = True
            self._child.end(GRACE_SECONDS)

    def close(self) -> None:
        """After `run` has returned."""
        self._socket.close()
        self._folder.close()

    def carried(self) -> dict[UUID, Carried]:
        """Since it was asked last."""
        with self._lock:
            try:
                self._count()
            except Unanswered as error:
                log.warning("the proxy's counts were not read: %s", error)
            owed, self._owed = self._owed, {}
        return owed

    def _start(self) -> None:
        with self._lock:
            self._counted = {}
            self._entries.update(self._view, self._clock())
            self._child.start(self._entries.tokens.held, self._entries.grants.held)
            self._settled()

    def _apply(self, confirming: Sequence[str] = ()) -> None:
        """What the last views changed, taking away first; that it is current; the end of what may not go on."""
        runtime, tokens, grants = self._child.runtime, self._entries.tokens, self._entries.grants
        files = ((tokens, self._plan.tokens), (grants, self._plan.grants))
        less = [f"del map {file} {key}" for one, file in files for key in one.gone]
        less += [f"set map {file} {key} {value}" for one, file in files for key, value in one.changed.items()]
        streams = runtime.do([*less, *confirming], "streams")
        for one, file in reversed(files):  # who is let in finds what they may reach
            runtime.add(file, one.new)
        self._settled()
        self._cut(streams)

    def _settled(self) -> None:
        self._entries.tokens.settled()
        self._entries.grants.settled()

    def _expire(self) -> None:
        """Tokens end at their moment, also between two views."""
        with self._lock:
            if self._due is None or self._clock() < self._due:
                return
            self._entries.update(self._view, self._clock())
            self._due = next_expiry(self._view.visitors, self._clock())
            self._apply()

    def _cut(self, rows: Sequence[Mapping[str, str]]) -> None:
        """End what streams for those who no longer may have it; its caller sees it cut short, not ended."""
        streams: dict[tuple[int, str], set[str]] = {}
        for row in rows:
            if row["use"] == "0":
                continue
            who, name, address, port = row["key"].split("|")
            serial, principal, _ = who.split(":")
            # one token may have many streams of one lease at once
            streams.setdefault((int(serial), f"{principal}|{name}"), set()).add(f"{address}:{port}")
        barred = {caller for one in self._entries.barred(streams) for caller in streams[one]}
        if barred:
            sessions = [session for session, caller in self._child.runtime.carried() if caller in barred]
            self._child.runtime.do([f"shutdown session {session}" for session in sessions])

    def _count(self) -> None:
        if self._over or not self._child.alive:
            return
        rows = self._child.runtime.do([], "leases")
        before = self._counted
        self._counted = {}  # a lease without a row is counted from nothing when it has one again
        for row in rows:
            key = int(row["key"])
            now = Carried(int(row["http_req_cnt"]), int(row["bytes_in_cnt"]), int(row["bytes_out_cnt"]))
            more = now.since(before.get(key, NOTHING))
            self._counted[key] = now
            if more != NOTHING:
                lease_id = self._entries.leases[key]
                self._owed[lease_id] = self._owed.get(lease_id, NOTHING).plus(more)
