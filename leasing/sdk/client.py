"""The client: ask for a lease, work with it, give it back."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from leasing.errors import LeasingError, Unavailable
from leasing.schema.lease import EventOut, LeaseOut, LeasePage, LeaseRequest, RenewRequest, WhyOut
from leasing.sdk import credentials as kept
from leasing.sdk.credentials import Credentials
from leasing.sdk.transport import TIMEOUT, Transport

WAIT_SECONDS = 0.2
OVER = ("ended",)


class Client:
    """A signed-in person's way to the platform.

    Without arguments it takes LEASING_URL and LEASING_TOKEN, or what `lease login` kept. Raises `NotSignedIn`.

        with Client().up(image="pytorch", gpu="1", ttl="2h") as lease:
            lease.wait()
            print(lease.endpoint().get("health").text)
    """

    def __init__(self, url: str | None = None, token: str | None = None) -> None:
        self.credentials = Credentials(url, token) if url and token else kept.load()
        self.transport = Transport(self.credentials)

    def up(self, ask: LeaseRequest | None = None, **wishes: Any) -> Lease:
        """Ask for a lease; the fields are those of `LeaseRequest`. Sent again safely if the answer is lost.

        Raises `Invalid`, `OverQuota`, `NoRoom`, `NameTaken`.
        """
        body = (ask or LeaseRequest(**wishes)).model_dump(mode="json", exclude_none=True)
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        try:
            made = self.transport.call("POST", "/leases", json=body, headers=headers)
        except Unavailable:
            time.sleep(WAIT_SECONDS)
            made = self.transport.call("POST", "/leases", json=body, headers=headers)
        return Lease(self, LeaseOut.model_validate(made))

    def lease(self, ref: str) -> Lease:
        """A lease by id or name. Raises `NotFound`."""
        return Lease(self, LeaseOut.model_validate(self.transport.call("GET", f"/leases/{ref}")))

    def leases(
        self, *, everyone: bool = False, ended: bool = False, state: str | None = None
    ) -> Iterator[LeaseOut]:
        """All of yours, newest first, read a page at a time."""
        wanted: dict[str, Any] = {"everyone": everyone, "ended": ended, "limit": 200}
        if state is not None:
            wanted["state"] = state
        while True:
            page = LeasePage.model_validate(self.transport.call("GET", "/leases", params=wanted))
            yield from page.items
            if page.next is None:
                return
            wanted["cursor"] = page.next

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """Any other operation of the REST API, below /api/v1."""
        return self.transport.call(method, path, **arguments)

    def close(self) -> None:
        self.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Lease:
    """One lease. As a context manager it is released at the end."""

    def __init__(self, client: Client, facts: LeaseOut) -> None:
        self._client = client
        self.facts = facts
        """As the platform last said it; `refresh` asks again."""

    @property
    def name(self) -> str:
        return self.facts.name

    @property
    def state(self) -> str:
        return self.facts.state

    def refresh(self) -> LeaseOut:
        self.facts = LeaseOut.model_validate(self._client.call("GET", f"/leases/{self.facts.id}"))
        return self.facts

    def wait(self, *, seconds: float | None = None) -> LeaseOut:
        """Until it runs. Raises `LeasingError` with the reason if it ends instead, `TimeoutError` after `seconds`."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while self.refresh().state != "running":
            if self.facts.state in OVER:
                raise LeasingError(f"Lease {self.name!r} ended ({self.facts.reason}): {self.facts.message}")
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"lease {self.name!r} is still {self.facts.state} after {seconds} s")
            time.sleep(WAIT_SECONDS)
        return self.facts

    def release(self) -> LeaseOut:
        """Give it back. Idempotent."""
        self.facts = LeaseOut.model_validate(self._client.call("DELETE", f"/leases/{self.facts.id}"))
        return self.facts

    def extend(self, ttl: str) -> LeaseOut:
        """Move its deadline: `2h` is added to what is left."""
        body = RenewRequest(ttl=ttl).model_dump(mode="json", exclude_none=True)
        self.facts = LeaseOut.model_validate(
            self._client.call("POST", f"/leases/{self.facts.id}/renew", json=body)
        )
        return self.facts

    def why(self) -> WhyOut:
        """Why it is where it is."""
        return WhyOut.model_validate(self._client.call("GET", f"/leases/{self.facts.id}/why"))

    def logs(self, *, follow: bool = False, tail: int | None = None) -> Iterator[str]:
        """Its output, a piece at a time."""
        wanted: Mapping[str, Any] = {"follow": follow} | ({} if tail is None else {"tail": tail})
        with self._client.transport.stream(f"/leases/{self.facts.id}/logs", params=wanted) as answer:
            yield from answer.iter_text()

    def events(self, *, follow: bool = False) -> Iterator[EventOut]:
        """What happened to it; following ends when the lease does."""
        if not follow:
            page = self._client.call("GET", f"/leases/{self.facts.id}/events", params={"limit": 500})
            yield from (EventOut.model_validate(one) for one in page["items"])
            return
        path, accept = f"/leases/{self.facts.id}/events", {"Accept": "text/event-stream"}
        with self._client.transport.stream(path, headers=accept) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    yield EventOut.model_validate(json.loads(line[6:]))

    def endpoint(self) -> httpx.Client:
        """An HTTP client at the lease's endpoint, signed in. Raises `LeasingError` for a lease without a port."""
        if self.facts.endpoint_url is None:
            raise LeasingError(f"Lease {self.name!r} was asked for without a port.")
        return httpx.Client(
            base_url=self.facts.endpoint_url,
            headers={"Authorization": f"Bearer {self._client.credentials.token}"},
            timeout=TIMEOUT,
            verify=self._client.transport.verify,
        )

    def exec(self, command: Sequence[str]) -> tuple[int, bytes]:
        """Run a command inside it: exit code, and what it printed."""
        from leasing.sdk.terminal import Terminal  # noqa: PLC0415 - few callers need WebSockets

        with Terminal.open(self._client.transport, self.facts.id, command, tty=False) as terminal:
            terminal.end_input()
            output = b"".join(terminal.output())
            return terminal.exit_code, output

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
