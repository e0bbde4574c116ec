"""Keeping a lease although it looks idle, and seeing what its signals say."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from leasing.cli import show
from leasing.cli.session import App, Json, client
from leasing.errors import Invalid
from leasing.reading import measured

WAIT_SECONDS = 15.0
"""So long for the first answer of a command."""
LOOK_SECONDS = 0.5


def register(app: App) -> None:
    app.command("keep")(keep)


def keep(
    name: Annotated[str, typer.Argument(help="The lease's name or id.")],
    while_: Annotated[
        str | None, typer.Option("--while", help="As long as this succeeds inside: 'pgrep -f train.py'")
    ] = None,
    for_: Annotated[str | None, typer.Option("--for", help="For so long at most: 3h")] = None,
    off: Annotated[bool, typer.Option("--off", help="No longer.")] = False,
    json: Json = False,
) -> None:
    """Keep a lease although it looks idle; its time still ends it."""
    from leasing.sdk.transport import at  # lazy: see session.client

    if off == bool(while_ or for_):
        raise Invalid(
            "Say for how long, or while what, or --off.",
            hint=f"lease keep {name} --while 'pgrep -f train.py'",
        )
    with client() as server:
        if off:
            lease = server.call("DELETE", at("leases", name, "keep"))
        else:
            asked = {"command": while_, "ttl": for_}
            lease = server.call(
                "POST", at("leases", name, "keep"), json={k: v for k, v in asked.items() if v}
            )
            deadline = time.monotonic() + WAIT_SECONDS
            while while_ and _open(lease) and time.monotonic() < deadline:
                time.sleep(LOOK_SECONDS)
                lease = server.call("GET", at("leases", name))
    if json:
        show.as_json(lease)
    elif off:
        print(f"{lease['name']} is no longer kept; it counts as idle when all its signals are quiet.")
    elif lease["keep"] is None:
        raise Invalid(
            f"{lease['name']} is not kept: the command did not succeed.",
            hint=f"What it said: lease events {lease['name']}. By its arguments a process is found with pgrep -f.",
        )
    else:
        print(f"{lease['name']} is kept {kept(lease['keep'])}")
        print(f"{show.GAP}No longer: lease keep {lease['name']} --off")


def kept(one: dict[str, Any]) -> str:
    """How a lease is kept, in words that follow `kept`."""
    parts = [f"while `{one['command']}` succeeds"] if one["command"] else []
    if one["until"]:
        parts.append(f"until it ends {show.moment(one['until'])}")
    if one["message"]:
        parts.append(f"but that is not known: {one['message']}")
    elif one["command"] and one["checked_at"] is None:
        parts.append("which was not asked yet")
    return ", ".join(parts)


def signals(found: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """A line for each signal: what it says, with its value, and since when."""
    for one in found:
        value = f", {measured(one['kind'], one['value'])}" if one["value"] is not None else ""
        since = f", since {show.moment(one['since'])}" if one["since"] else ""
        why = f": {one['reason']}" if one["reason"] else ""
        state = "not applicable" if one["state"] == "inapplicable" else one["state"]
        yield f"  {one['kind'].replace('_', ' ')}", f"{state}{value}{since}{why}"


def _open(lease: dict[str, Any]) -> bool:
    """Whether the command has not answered yet."""
    one = lease["keep"]
    return one is not None and one["checked_at"] is None and not one["message"]
