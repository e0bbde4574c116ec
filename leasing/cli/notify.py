"""`lease notify`: where you are told before the platform takes something back."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from leasing.cli import show
from leasing.cli.session import App, Json, client, listing
from leasing.errors import LeasingError

POLL_SECONDS = 0.3
PATIENCE_SECONDS = 60.0

group = App(help="Where you are told before a lease is taken back.")

Channel = Annotated[str, typer.Argument(help="mail, webhook or chat")]


def register(to: App) -> None:
    to.add_typer(group, name="notify")


@group.command("ls")
def list_contacts(json: Json = False) -> None:
    """Where you are told, beside the pages and the shell."""
    page = listing(
        "/contacts",
        json,
        ["CHANNEL", "WHERE", "LAST TOLD", "TROUBLE"],
        lambda one: [one["channel"], one["shown"], show.moment(one["told_at"]), one["error"] or "-"],
        empty="The pages, this command line and your leases' own terminals tell you. "
        "Elsewhere too, for example: lease notify set webhook https://example.org/hook",
    )
    if not json and not page["items"]:
        print(f"What can be set here: {', '.join(page['channels'])}.")


@group.command("set")
def set_contact(
    channel: Channel,
    address: Annotated[
        str, typer.Argument(help="ada@example.org, https://…, slack://… or another Apprise URL")
    ],
    json: Json = False,
) -> None:
    """Be told there from now on."""
    from leasing.sdk.transport import at  # lazy: see session.client

    with client() as server:
        made = server.call("PUT", at("contacts", channel), json={"address": address})
    if json:
        show.as_json(made)
        return
    print(f"You are told by {made['channel']}: {made['shown']}")
    if made["secret"]:
        print(f"{show.GAP}its calls are signed with this key, which is not shown again: {made['secret']}")
    print(f"{show.GAP}Try it: lease notify test {made['channel']}")


@group.command("test")
def try_contact(channel: Channel, json: Json = False) -> None:
    """Have a message sent there now."""
    made = _tried(channel)
    if json:
        show.as_json(made)
    elif not made["error"]:
        print(f"A message was sent: {made['shown']}")
    if made["error"]:
        raise LeasingError(f"It did not arrive: {made['error']}.", hint=f"lease notify set {channel} ADDRESS")


@group.command("rm")
def remove(channel: Channel) -> None:
    """Be told there no more."""
    from leasing.sdk.transport import at  # lazy: see session.client

    with client() as server:
        server.call("DELETE", at("contacts", channel))
    print(f"You are no longer told by {channel}.")


def _tried(channel: str) -> dict[str, Any]:
    """The contact once it is known how it went."""
    from leasing.sdk.transport import at  # lazy: see session.client

    with client() as server:
        made: dict[str, Any] = server.call("POST", at("contacts", channel, "test"))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while made["testing"] and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            items = server.call("GET", "/contacts")["items"]
            made = next((one for one in items if one["channel"] == channel), made | {"testing": False})
    if made["testing"]:
        raise LeasingError("Nothing is known of it yet.", hint="A little later: lease notify ls")
    return made
