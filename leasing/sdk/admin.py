"""What admins do: people, projects, machines, registries. `Client.admin` holds one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from leasing.schema.activity import ActivityPage
from leasing.schema.cluster import DevicePage, DeviceStateOut, NodeOut, NodePage, RegistryOut, RegistryPage
from leasing.schema.history import HistoryPage
from leasing.schema.lease import EventOut, EventPage
from leasing.schema.people import UserOut, UserPage
from leasing.schema.policy import PolicyIn, PolicyOut, PolicyPage
from leasing.schema.project import ProjectIn, ProjectOut, ProjectPatch, QuotaIn, QuotaOut
from leasing.schema.usage import DeviceBy, DeviceUsagePage, PriceIn, PriceOut
from leasing.schema.warm import WarmPage, WarmPoolIn, WarmPoolOut
from leasing.sdk.transport import Transport, at
from leasing.sdk.wire import ask, body, period

Intent = Literal["open", "cordoned"]
NodeIntent = Literal["open", "cordoned", "draining"]
PAGE = 500


class Admin:
    """Every operation raises `NotAllowed` for who is no admin."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def users(self) -> list[UserOut]:
        return ask(self._transport, UserPage, "GET", "/users").items

    def create_user(self, name: str, *, role: str = "developer") -> UserOut:
        """Raises `Invalid`, `Conflict`."""
        asked = {"name": name, "role": role}
        return ask(self._transport, UserOut, "POST", "/users", json=asked)

    def change_user(self, name: str, **changes: Any) -> UserOut:
        """Of `role` and `disabled`, what is given. Raises `NotFound`."""
        return ask(self._transport, UserOut, "PATCH", at("users", name), json=changes)

    def change_node(
        self,
        name: str,
        intent: NodeIntent | None = None,
        *,
        labels: Mapping[str, str | None] | None = None,
    ) -> NodeOut:
        """On a cordoned one nothing new is placed, and leases on a draining one are suspended; a label that is None is
        taken away. Raises `NotFound`, `Invalid`."""
        asked = ({"intent": intent} if intent else {}) | ({"labels": dict(labels)} if labels else {})
        page = ask(self._transport, NodePage, "PATCH", at("nodes", name), json=asked)
        return next(node for node in page.items if node.name == name)

    def give_up_node(self, name: str) -> NodeOut:
        """It does not come back: its leases end as lost, with all that they kept there, and it is cordoned.

        Raises `NotFound`, and `Conflict` while it answers.
        """
        page = ask(self._transport, NodePage, "PATCH", at("nodes", name), json={"lost": True})
        return next(node for node in page.items if node.name == name)

    def change_device(self, uuid: str, intent: Intent) -> DeviceStateOut:
        """A cordoned one is leased no more, once it is free. Raises `NotFound`."""
        page = ask(self._transport, DevicePage, "PATCH", at("devices", uuid), json={"intent": intent})
        return next(device for device in page.items if device.uuid == uuid)

    def clear_device(self, uuid: str) -> DeviceStateOut:
        """Take its faults and the memory it uses now for what is usual; it is judged anew. Raises `NotFound`."""
        page = ask(self._transport, DevicePage, "PATCH", at("devices", uuid), json={"clear": True})
        return next(device for device in page.items if device.uuid == uuid)

    def create_project(self, name: str, **facts: Any) -> ProjectOut:
        """Of `weight`, `open` and `top_priority`, what is not as usual. Raises `Invalid`, `NameTaken`."""
        asked = body(ProjectIn, {"name": name} | facts)
        return ask(self._transport, ProjectOut, "POST", "/projects", json=asked)

    def change_project(self, name: str, **changes: Any) -> ProjectOut:
        """Of `weight`, `open` and `top_priority`, what is given. Raises `NotFound`, `Invalid`."""
        asked = body(ProjectPatch, changes)
        return ask(self._transport, ProjectOut, "PATCH", at("projects", name), json=asked)

    def delete_project(self, name: str) -> None:
        """Raises `NotFound`, and `Conflict` once anything was leased in its name."""
        self._transport.call("DELETE", at("projects", name))

    def set_quota(self, subject: str, **limits: Any) -> QuotaOut:
        """All limits of `users/NAME` or `projects/NAME`: `max_devices`, `max_leases`, `device_hours`, `window_hours`.

        What is left out is not limited, or, for users, as the platform's default. Raises `NotFound`, `Invalid`.
        """
        asked = body(QuotaIn, limits)
        return ask(self._transport, QuotaOut, "PUT", _quota(subject), json=asked)

    def clear_quota(self, subject: str) -> None:
        """Users then have the platform's defaults, projects no limit. Raises `NotFound`, `Invalid`."""
        self._transport.call("DELETE", _quota(subject))

    def policies(self) -> list[PolicyOut]:
        """How leases are taken back, the most general first; the platform's own where none is for all."""
        return ask(self._transport, PolicyPage, "GET", "/policies").items

    def policy(self, name: str) -> PolicyOut:
        """Raises `NotFound`."""
        return ask(self._transport, PolicyOut, "GET", at("policies", name))

    def set_policy(self, name: str, **terms: Any) -> PolicyOut:
        """Make it or set it anew, whole: the fields of `PolicyIn`; what is left out is as the platform's own.

        Raises `Invalid`, `NotFound` for whom it is for, `Gone` for a lease that is over, and `Conflict` if another
        policy is for the same.
        """
        return ask(self._transport, PolicyOut, "PUT", at("policies", name), json=body(PolicyIn, terms))

    def remove_policy(self, name: str) -> None:
        """The next more general one counts at once. Raises `NotFound`."""
        self._transport.call("DELETE", at("policies", name))

    def device_usage(self, *, by: DeviceBy | str = DeviceBy.DAY, **wanted: Any) -> DeviceUsagePage:
        """Where devices' time went, by `day`, `hour`, `device`, `model` or `node`; the classes sum to capacity.

        The period as in `Client.usage`; `limit` and `cursor` for one page after the other. Raises `Invalid`.
        """
        params = period(wanted) | {"by": str(by)}
        return ask(self._transport, DeviceUsagePage, "GET", "/usage/devices", params=params)

    def set_price(self, model: str, per_hour: float) -> PriceOut:
        """For every device whose model has that as a part of its name. Raises `Invalid`."""
        asked = body(PriceIn, {"per_hour": per_hour})
        return ask(self._transport, PriceOut, "PUT", at("prices", model), json=asked)

    def remove_price(self, model: str) -> None:
        """Raises `NotFound`."""
        self._transport.call("DELETE", at("prices", model))

    def warm(self) -> WarmPage:
        """What is kept ready on nodes before anybody asks (`items`), and which containers are wanted (`pools`)."""
        return ask(self._transport, WarmPage, "GET", "/warm")

    def keep_warm(self, image: str, count: int = 1, **facts: Any) -> WarmPoolOut:
        """Keep so many containers of an image waiting: on each open node or on `node`, each bound to a `gpu` or
        without, of `cpus` and `memory` or as leases that name none. Raises `Invalid`, `NotFound`."""
        asked = body(WarmPoolIn, {"image": image, "count": count} | facts)
        return ask(self._transport, WarmPoolOut, "PUT", "/warm/pools", json=asked)

    def remove_warm(self, image: str, *, node: str | None = None, gpu: str | None = None) -> None:
        """Raises `NotFound`."""
        named = {"image": image, "node": node, "gpu": gpu}
        params = {name: value for name, value in named.items() if value is not None}
        self._transport.call("DELETE", "/warm/pools", params=params)

    def registries(self) -> list[RegistryOut]:
        """Which logins at private image registries there are; never their secrets."""
        return ask(self._transport, RegistryPage, "GET", "/registries").items

    def add_registry(self, host: str, username: str, secret: str) -> RegistryOut:
        """Store a login, or replace it."""
        asked = {"host": host, "username": username, "secret": secret}
        return ask(self._transport, RegistryOut, "POST", "/registries", json=asked)

    def remove_registry(self, host: str) -> None:
        """Raises `NotFound`."""
        self._transport.call("DELETE", at("registries", host))

    def events(self, *, after: int = 0) -> Iterator[EventOut]:
        """Everything that happened on the platform since the event `after`, oldest first."""
        wanted: dict[str, Any] = {"after": after, "limit": PAGE}
        while True:
            page = ask(self._transport, EventPage, "GET", "/events", params=wanted)
            yield from page.items
            if page.next is None:
                return
            wanted["after"] = page.next

    def history(self, *, days: int = 30) -> Iterator[HistoryPage]:
        """What was asked for lately and what became of it, a page at a time; nodes and projects with the first."""
        wanted: dict[str, Any] = {"days": days, "limit": PAGE}
        while True:
            page = ask(self._transport, HistoryPage, "GET", "/history", params=wanted)
            yield page
            if page.next is None:
                return
            wanted["cursor"] = page.next

    def activity(self, *, days: int = 7, project: str | None = None) -> Iterator[ActivityPage]:
        """What leases did by the minute, a page at a time. Raises `NotFound` for the project."""
        wanted: dict[str, Any] = {"days": days} | ({"project": project} if project else {})
        while True:
            page = ask(self._transport, ActivityPage, "GET", "/activity", params=wanted)
            yield page
            if page.next is None:
                return
            wanted["cursor"] = page.next


def _quota(subject: str) -> str:
    kind, _, name = subject.partition("/")
    return at("quotas", kind, name)
