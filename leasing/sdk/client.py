"""The client: ask for a lease, work with it, give it back."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import datetime
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from leasing.errors import Unavailable
from leasing.schema.cluster import (
    DevicePage,
    DeviceStateOut,
    EnvironmentOut,
    EnvironmentPage,
    NodeOut,
    NodePage,
    OfferOut,
    OfferPage,
)
from leasing.schema.lease import LeaseOut, LeasePage, LeaseRequest, QueueEntryOut, QueuePage
from leasing.schema.notice import ContactIn, ContactOut, ContactPage
from leasing.schema.people import MeOut, SigninLinkOut, TokenOut, TokenPage
from leasing.schema.project import MemberIn, ProjectOut, ProjectPage, QuotaOut, QuotaPage
from leasing.schema.reservation import ReservationOut, ReservationPage, ReservationRequest
from leasing.schema.usage import PriceOut, PricePage, UsageBy, UsagePage
from leasing.sdk import credentials as kept
from leasing.sdk.admin import Admin
from leasing.sdk.credentials import Credentials
from leasing.sdk.lease import Lease
from leasing.sdk.transport import Transport, at
from leasing.sdk.wire import ask, body, period, read
from leasing.sdk.workspaces import Workspaces

AGAIN_SECONDS = 0.2
PAGE = 200

__all__ = ["Admin", "Client", "Lease"]


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
        self.admin = Admin(self.transport)
        self.workspaces = Workspaces(self.transport)

    @classmethod
    def sign_in(cls, url: str, secret: str, *, label: str = "sdk") -> Self:
        """With the secret of a one-time link, which is good for nothing afterwards: keep `credentials.token`.

        Raises `NotSignedIn` for a link that was used already or is too old.
        """
        with Transport(Credentials(url, "")) as stranger:
            made = ask(stranger, TokenOut, "POST", "/signin", json={"secret": secret, "label": label})
        return cls(url, made.secret)

    def up(self, wish: LeaseRequest | None = None, **wishes: Any) -> Lease:
        """Ask for a lease; the fields are those of `LeaseRequest`. Sent again safely if the answer is lost.

        Raises `Invalid`, `OverQuota`, `NoRoom`, `NameTaken`.
        """
        asked = body(LeaseRequest, dict(wish) if wish else wishes)
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        try:
            made = self.transport.call("POST", "/leases", json=asked, headers=headers)
        except Unavailable:
            time.sleep(AGAIN_SECONDS)
            made = self.transport.call("POST", "/leases", json=asked, headers=headers)
        return Lease(self.transport, read(self.transport, LeaseOut, made))

    def lease(self, ref: str) -> Lease:
        """A lease by id or name. Raises `NotFound`, `NotAllowed`."""
        return Lease(self.transport, ask(self.transport, LeaseOut, "GET", at("leases", ref)))

    def leases(
        self, *, everyone: bool = False, ended: bool = False, state: str | None = None
    ) -> Iterator[LeaseOut]:
        """All of yours, newest first, read a page at a time."""
        wanted: dict[str, Any] = {"everyone": everyone, "ended": ended, "limit": PAGE}
        if state is not None:
            wanted["state"] = state
        while True:
            page = ask(self.transport, LeasePage, "GET", "/leases", params=wanted)
            yield from page.items
            if page.next is None:
                return
            wanted["cursor"] = page.next

    def queue(self) -> list[QueueEntryOut]:
        """Who waits, in the order of service."""
        return ask(self.transport, QueuePage, "GET", "/queue").items

    def offers(self) -> list[OfferOut]:
        """What is free now, node by node."""
        return ask(self.transport, OfferPage, "GET", "/offers").items

    def reservations(
        self, *, starts_at: datetime | None = None, ends_at: datetime | None = None
    ) -> list[ReservationOut]:
        """Everybody's, the first to begin first: of the next week, or of the range that is given."""
        wanted = {"from": starts_at, "to": ends_at}
        params = {name: moment.isoformat() for name, moment in wanted.items() if moment is not None}
        return ask(self.transport, ReservationPage, "GET", "/reservations", params=params).items

    def reserve(self, wish: ReservationRequest | None = None, **wishes: Any) -> ReservationOut:
        """Reserve devices for a range of time; the fields are those of `ReservationRequest`.

        Lease them by `up(reservation=…)`. Raises `Invalid`, `OverQuota`, `NameTaken`, and `NotFree`, whose hint says
        when it would work.
        """
        asked = body(ReservationRequest, dict(wish) if wish else wishes)
        return ask(self.transport, ReservationOut, "POST", "/reservations", json=asked)

    def reservation(self, ref: str) -> ReservationOut:
        """A reservation by id or name. Raises `NotFound`."""
        return ask(self.transport, ReservationOut, "GET", at("reservations", ref))

    def cancel_reservation(self, ref: str) -> ReservationOut:
        """Give its devices back; leases under it go on. Idempotent. Raises `NotFound`, `NotAllowed`."""
        return ask(self.transport, ReservationOut, "DELETE", at("reservations", ref))

    def images(self) -> list[EnvironmentOut]:
        """The catalogue of environments."""
        return ask(self.transport, EnvironmentPage, "GET", "/images").items

    def nodes(self) -> list[NodeOut]:
        """The machines."""
        return ask(self.transport, NodePage, "GET", "/nodes").items

    def devices(self) -> list[DeviceStateOut]:
        """The GPUs, and what may be done with each."""
        return ask(self.transport, DevicePage, "GET", "/devices").items

    def projects(self, *, everyone: bool = False) -> list[ProjectOut]:
        """Yours, and those that are open to all; for admins `everyone` gives every one."""
        params = {"everyone": everyone}
        return ask(self.transport, ProjectPage, "GET", "/projects", params=params).items

    def set_member(self, project: str, user: str, role: str = "developer") -> ProjectOut:
        """Let somebody in, or change their role; for its owners. Raises `NotFound`, `NotAllowed`, `Invalid`."""
        asked = body(MemberIn, {"role": role})
        return ask(self.transport, ProjectOut, "PUT", at("projects", project, "members", user), json=asked)

    def remove_member(self, project: str, user: str) -> None:
        """Their leases go on. Raises `NotFound`, `NotAllowed`."""
        self.transport.call("DELETE", at("projects", project, "members", user))

    def quotas(self, *, everyone: bool = False) -> list[QuotaOut]:
        """Your and your projects' limits, and what counts against them; for admins `everyone`: all that were set."""
        params = {"everyone": everyone}
        return ask(self.transport, QuotaPage, "GET", "/quotas", params=params).items

    def usage(self, *, by: UsageBy | str = UsageBy.LEASE, everyone: bool = False, **wanted: Any) -> UsagePage:
        """What was allocated and used, by `lease`, `user`, `project`, `model` or `day`.

        `days` (7), `month` ("2026-11") or `since` and `until` (moments); `zone`, whose months and days they are; only
        of a `user`, `project`, `lease` or `model`; `limit` and `cursor` for one page after another. `everyone`: of the
        projects you own, for admins of all. Raises `Invalid`.
        """
        params = period(wanted) | {"by": str(by), "everyone": everyone}
        return ask(self.transport, UsagePage, "GET", "/usage", params=params)

    def prices(self) -> list[PriceOut]:
        """What an hour of a device costs, by model."""
        return ask(self.transport, PricePage, "GET", "/prices").items

    def contacts(self) -> list[ContactOut]:
        """Where you are told of warnings, beside the pages and the shell."""
        return ask(self.transport, ContactPage, "GET", "/contacts").items

    def set_contact(self, channel: str, address: str) -> ContactOut:
        """Be told by `mail`, `webhook` or `chat` (an Apprise URL). A webhook's key is in this answer and nowhere else.

        Raises `Invalid`, also for an address that is not public.
        """
        asked = body(ContactIn, {"address": address})
        return ask(self.transport, ContactOut, "PUT", at("contacts", channel), json=asked)

    def test_contact(self, channel: str) -> ContactOut:
        """Have a message sent there; `contacts` says soon how it went. Raises `NotFound`."""
        return ask(self.transport, ContactOut, "POST", at("contacts", channel, "test"))

    def remove_contact(self, channel: str) -> None:
        """Raises `NotFound`."""
        self.transport.call("DELETE", at("contacts", channel))

    def me(self) -> MeOut:
        """Who you are, where you may lease, and which version answers."""
        return ask(self.transport, MeOut, "GET", "/me")

    def tokens(self) -> list[TokenOut]:
        """Yours, without their secrets."""
        return ask(self.transport, TokenPage, "GET", "/tokens").items

    def create_token(self, label: str, *, ttl: str | None = None, user: str | None = None) -> TokenOut:
        """Its `secret` is in this answer and nowhere else. `ttl` like `30d`; admins may make one for another user."""
        asked = {"label": label, "ttl": ttl, "user": user}
        return ask(self.transport, TokenOut, "POST", "/tokens", json=asked)

    def revoke_token(self, token: UUID) -> bool:
        """Make it worthless. Whether it is so at every gateway already; else it is soon. Raises `NotFound`."""
        return self.transport.revoke(at("tokens", str(token)))

    def signin_link(self, name: str) -> SigninLinkOut:
        """A one-time link: to sign in on another machine, or, for admins, for somebody else."""
        return ask(self.transport, SigninLinkOut, "POST", at("users", name, "signin-link"))

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """Any other operation of the REST API, below /api/v1."""
        return self.transport.call(method, path, **arguments)

    def close(self) -> None:
        self.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
