"""What admins do: people, machines, registries. `Client.admin` holds one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from leasing.schema.cluster import DevicePage, DeviceStateOut, NodeOut, NodePage, RegistryOut, RegistryPage
from leasing.schema.lease import EventOut, EventPage
from leasing.schema.people import UserOut, UserPage
from leasing.sdk.transport import Transport, at
from leasing.sdk.wire import ask

Intent = Literal["open", "cordoned"]
PAGE = 500


class Admin:
    """Every operation raises `NotAllowed` for who is no admin."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def users(self) -> list[UserOut]:
        return ask(self._transport, UserPage, "GET", "/users").items

    def create_user(self, name: str, *, role: str = "developer") -> UserOut:
        """Raises `Invalid`, `Conflict`."""
        body = {"name": name, "role": role}
        return ask(self._transport, UserOut, "POST", "/users", json=body)

    def change_user(self, name: str, **changes: Any) -> UserOut:
        """Of `role` and `disabled`, what is given. Raises `NotFound`."""
        return ask(self._transport, UserOut, "PATCH", at("users", name), json=changes)

    def change_node(self, name: str, intent: Intent) -> NodeOut:
        """On a cordoned one nothing new is placed. Raises `NotFound`."""
        page = ask(self._transport, NodePage, "PATCH", at("nodes", name), json={"intent": intent})
        return next(node for node in page.items if node.name == name)

    def change_device(self, uuid: str, intent: Intent) -> DeviceStateOut:
        """A cordoned one is leased no more, once it is free. Raises `NotFound`."""
        page = ask(self._transport, DevicePage, "PATCH", at("devices", uuid), json={"intent": intent})
        return next(device for device in page.items if device.uuid == uuid)

    def clear_device(self, uuid: str) -> DeviceStateOut:
        """Take its faults and the memory it uses now for what is usual; it is judged anew. Raises `NotFound`."""
        page = ask(self._transport, DevicePage, "PATCH", at("devices", uuid), json={"clear": True})
        return next(device for device in page.items if device.uuid == uuid)

    def registries(self) -> list[RegistryOut]:
        """Which logins at private image registries there are; never their secrets."""
        return ask(self._transport, RegistryPage, "GET", "/registries").items

    def add_registry(self, host: str, username: str, secret: str) -> RegistryOut:
        """Store a login, or replace it."""
        body = {"host": host, "username": username, "secret": secret}
        return ask(self._transport, RegistryOut, "POST", "/registries", json=body)

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
