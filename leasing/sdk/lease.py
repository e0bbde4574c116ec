"""One lease in a program's hands: wait for it, use it, give it back."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import httpx

from leasing.errors import LeasingError
from leasing.schema.endpoint import EndpointRequest
from leasing.schema.files import FolderOut, UploadOut
from leasing.schema.keep import KeepRequest
from leasing.schema.lease import EventOut, EventPage, LeaseOut, RenewRequest, ResumeRequest, WhyOut
from leasing.schema.people import LeaseTokenIn, TokenOut, TokenPage
from leasing.sdk import files, streams
from leasing.sdk.transport import TIMEOUT, Transport, at
from leasing.sdk.wire import ask, body, read

WAIT_SECONDS = 0.2
PAGE = 500


class Lease:
    """One lease. As a context manager it is released at the end."""

    def __init__(self, transport: Transport, facts: LeaseOut) -> None:
        self._transport = transport
        self.facts = facts
        """As the platform last said it; `refresh` asks again."""

    @property
    def name(self) -> str:
        return self.facts.name

    @property
    def state(self) -> str:
        return self.facts.state

    def refresh(self) -> LeaseOut:
        return self._now(self._transport.call("GET", self._path()))

    def wait(self, *, seconds: float | None = None) -> LeaseOut:
        """Until it runs. Raises `LeasingError` with the reason if it ends or rests, `TimeoutError` after `seconds`."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while self.refresh().state != "running":
            if self.facts.state == "ended":
                raise LeasingError(f"Lease {self.name!r} ended ({self.facts.reason}): {self.facts.message}")
            if self.facts.state == "suspended":
                raise LeasingError(f"Lease {self.name!r} is suspended: {self.facts.message}")
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"lease {self.name!r} is still {self.facts.state} after {seconds} s")
            time.sleep(WAIT_SECONDS)
        return self.facts

    def release(self) -> LeaseOut:
        """Give it back. Idempotent."""
        return self._now(self._transport.call("DELETE", self._path()))

    def extend(self, ttl: str | None = None, *, until: datetime | None = None) -> LeaseOut:
        """Move its deadline: `2h` is added to the present one, `until` replaces it, neither is the usual step.

        Of a suspended one: how long its files are kept. Raises `Invalid`, `Gone`.
        """
        asked = body(RenewRequest, {"ttl": ttl, "until": until})
        return self._now(self._transport.call("POST", self._path("renew"), json=asked))

    def suspend(self) -> LeaseOut:
        """Stop it and keep its files and the time it has left. Idempotent. Raises `Conflict`, `Gone`."""
        return self._now(self._transport.call("POST", self._path("suspend")))

    def resume(self, ttl: str | None = None, *, until: datetime | None = None) -> LeaseOut:
        """Let it queue again and go on: with the time that is given, else what it has left, else, that being over, what
        it was first asked for. Idempotent. Raises `Conflict` while it still stops, `Gone`, `Invalid`, `OverQuota`."""
        asked = body(ResumeRequest, {"ttl": ttl, "until": until})
        return self._now(self._transport.call("POST", self._path("resume"), json=asked))

    def restart(self) -> LeaseOut:
        """Stop what runs in it and start it again, devices attached anew; with others if one is out of order.

        Raises `Conflict` unless it runs, `Gone`.
        """
        return self._now(self._transport.call("POST", self._path("restart")))

    def keep(self, *, command: str | None = None, ttl: str | None = None) -> LeaseOut:
        """Keep it although it looks idle: while `command` succeeds inside it, for `ttl` (`3h`), or both.

        Raises `Conflict` unless it runs, `Gone`, `Invalid`.
        """
        asked = body(KeepRequest, {"command": command, "ttl": ttl})
        return self._now(self._transport.call("POST", self._path("keep"), json=asked))

    def unkeep(self) -> LeaseOut:
        """Keep it no longer. Idempotent."""
        return self._now(self._transport.call("DELETE", self._path("keep")))

    def set_endpoint(self, **options: Any) -> LeaseOut:
        """Change its endpoint while it lives; the fields are those of `EndpointRequest`. Raises `Gone`, `Invalid`."""
        asked = body(EndpointRequest, options)
        return self._now(self._transport.call("PATCH", self._path("endpoint"), json=asked))

    def share(self) -> LeaseOut:
        """With the members of its project, each as far as their role goes. Idempotent. Raises `Gone`, `NotAllowed`."""
        return self._now(self._transport.call("POST", self._path("share")))

    def unshare(self) -> LeaseOut:
        """Keep it to oneself again. Idempotent. Raises `Gone`, `NotAllowed`."""
        return self._now(self._transport.call("DELETE", self._path("share")))

    def tokens(self) -> list[TokenOut]:
        """Your tokens for its endpoint, without their secrets; everybody's, if you may share it."""
        return ask(self._transport, TokenPage, "GET", self._path("tokens")).items

    def create_token(self, label: str, *, ttl: str | None = None) -> TokenOut:
        """One that opens its endpoint and nothing else, good for `ttl` (30 days). Its `secret` is in this answer and
        nowhere else. Raises `Conflict`, `Gone`, `Invalid`."""
        asked = body(LeaseTokenIn, {"label": label, "ttl": ttl})
        return ask(self._transport, TokenOut, "POST", self._path("tokens"), json=asked)

    def revoke_token(self, token: UUID) -> bool:
        """Make it worthless. Whether it is so at every gateway already; else it is soon. Raises `NotFound`."""
        return self._transport.revoke(self._path("tokens", str(token)))

    def why(self) -> WhyOut:
        """Why it is where it is."""
        return ask(self._transport, WhyOut, "GET", self._path("why"))

    def logs(self, *, follow: bool = False, tail: int | None = None) -> Iterator[str]:
        """Its output, a piece at a time."""
        return streams.logs(self._transport, str(self.facts.id), follow=follow, tail=tail)

    def events(self, *, follow: bool = False) -> Iterator[EventOut]:
        """What happened to it; following ends when the lease does."""
        if follow:
            for one in streams.events(self._transport, str(self.facts.id)):
                yield read(self._transport, EventOut, one)
            return
        wanted: dict[str, Any] = {"limit": PAGE}
        while True:
            page = ask(self._transport, EventPage, "GET", self._path("events"), params=wanted)
            yield from page.items
            if page.next is None:
                return
            wanted["after"] = page.next

    def endpoint(self) -> httpx.Client:
        """An HTTP client at the lease's endpoint, signed in. Raises `LeasingError` for a lease without a port."""
        if self.facts.endpoint_url is None:
            raise LeasingError(
                f"Lease {self.name!r} has no endpoint: it was asked for without a port.",
                hint="Ask with the port that the application listens on: up(port=8000)",
            )
        return httpx.Client(
            base_url=self.facts.endpoint_url,
            headers={"Authorization": f"Bearer {self._transport.token}"},
            timeout=TIMEOUT,
            verify=self._transport.verify,
        )

    def exec(self, command: Sequence[str]) -> tuple[int, bytes]:
        """Run a command inside it: exit code, and what it printed."""
        from leasing.sdk.terminal import Terminal  # noqa: PLC0415 - few callers need WebSockets

        with Terminal.open(self._transport, str(self.facts.id), command, tty=False) as terminal:
            terminal.end_input()
            output = b"".join(terminal.output())
            return terminal.exit_code, output

    def list_files(self, path: str = "") -> FolderOut:
        """What is at that path; relative ones are below `/workspace`. Raises `NotFound`, `NotAllowed`, `Conflict`."""
        return files.listing(self._transport, str(self.facts.id), path)

    def read_file(self, path: str) -> bytes:
        """What is in one file, which is held in memory. Raises `NotFound`, `Invalid` for a folder."""
        return files.read(self._transport, str(self.facts.id), path)

    def download(self, path: str = "") -> Iterator[bytes]:
        """A file, or a folder with all that is in it, as the pieces of a tar. Raises `NotFound`, `Unavailable`."""
        return files.download(self._transport, str(self.facts.id), path)

    def upload(self, path: str, tar: Iterable[bytes]) -> UploadOut:
        """Unpack a tar (`leasing.sdk.packing` makes one) in a folder. Raises `NotFound`, `Conflict`, `Invalid`."""
        return files.upload(self._transport, str(self.facts.id), path, tar)

    def _path(self, *more: str) -> str:
        return at("leases", str(self.facts.id), *more)

    def _now(self, answer: Any) -> LeaseOut:
        self.facts = read(self._transport, LeaseOut, answer)
        return self.facts

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
