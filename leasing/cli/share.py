"""Sharing a lease with its project, and tokens that open one lease's endpoint."""

from __future__ import annotations

import sys
from typing import Annotated
from uuid import UUID

import typer

from leasing.cli import show
from leasing.cli.session import App, Json, client, listing

token = App(help="The token in use; and tokens that open one lease's endpoint, to hand to others.")
Name = Annotated[str, typer.Argument(help="The lease's name or id.")]


def register(app: App) -> None:
    app.command("share")(share)
    app.command("unshare")(unshare)
    app.add_typer(token, name="token")


@token.callback()
def own(context: typer.Context) -> None:
    """By itself it prints the token in use, for `curl -H "Authorization: Bearer $(lease token)"`."""
    if context.invoked_subcommand is None:
        from leasing.sdk import credentials  # lazy: see session.client

        print(credentials.load().token)


def share(name: Name, json: Json = False) -> None:
    """Let the members of a lease's project use it: viewers call it, developers enter it, owners release it."""
    _set(name, "POST", json, "{name} is shared with project {project}: lease projects members {project}")


def unshare(name: Name, json: Json = False) -> None:
    """Keep a lease to yourself again, at once."""
    _set(name, "DELETE", json, "{name} is {owner}'s alone; owners of project {project} still see it.")


@token.command("create")
def create(
    name: Name,
    label: Annotated[str, typer.Option(help="What it is for.")] = "endpoint",
    for_: Annotated[str | None, typer.Option("--for", help="How long it is good: 30d")] = None,
    json: Json = False,
) -> None:
    """Make a token for a lease's endpoint, and nothing else; it is shown once."""
    from leasing.sdk.transport import at  # lazy: see session.client

    with client() as server:
        made = server.call("POST", at("leases", name, "tokens"), json={"label": label, "ttl": for_})
    if json:
        show.as_json(made)
        return
    print(made["secret"])
    print(f"It is not shown again, and good until {show.moment(made['expires_at'])}.", file=sys.stderr)


@token.command("ls")
def list_tokens(name: Name, json: Json = False) -> None:
    """Your tokens for a lease's endpoint; everybody's, if you may share it."""
    from leasing.sdk.transport import at  # lazy: see session.client

    listing(
        at("leases", name, "tokens"),
        json,
        ["ID", "LABEL", "MADE BY", "EXPIRES"],
        lambda one: [one["id"], one["label"], one["user"], show.moment(one["expires_at"])],
        empty=f"Nobody has a token for it. Make one: lease token create {name}",
    )


@token.command("rm")
def remove(name: Name, token_id: Annotated[UUID, typer.Argument(help="From lease token ls.")]) -> None:
    """Make a token for a lease worthless, at once."""
    from leasing.sdk.transport import at  # lazy: see session.client

    with client() as server:
        print(show.revoked(server.revoke(at("leases", name, "tokens", str(token_id)))))


def _set(name: str, method: str, json: bool, said: str) -> None:
    from leasing.sdk.transport import at  # lazy: see session.client

    with client() as server:
        lease = server.call(method, at("leases", name, "share"))
    if json:
        show.as_json(lease)
    else:
        print(said.format_map(lease))
