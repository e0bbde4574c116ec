"""`lease reserve`: devices for a later time, and the calendar of what is taken when."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from leasing.cli import show
from leasing.cli.session import App, Json, client, listing
from leasing.errors import Invalid
from leasing.units import parse_until

app = App(help="Devices for a later time, and who has what when.")


def register(to: App) -> None:
    to.add_typer(app, name="reserve")


@app.command("ls")
def calendar(json: Json = False) -> None:
    """What is reserved in the next days, and until when leases have devices."""
    page = listing(
        "/reservations",
        json,
        ["NAME", "STATE", "GPU", "NODE", "FROM", "UNTIL", "OWNER", "NOTE"],
        lambda one: [
            one["name"],
            "late" if one["late_since"] else one["state"],
            one["gpu"],
            f"{one['node']}/{_indexes(one)}",
            show.moment(one["starts_at"]),
            show.moment(one["ends_at"]),
            one["owner"],
            one["message"] or ", ".join(one["leases"]),
        ],
        empty="Nothing is reserved. Reserve: lease reserve add NAME --gpu 1 --from 14:00 --for 4h",
    )
    if page["leases"] and not json:
        print()
        show.table(
            ["LEASE", "NODE", "UNTIL", "OWNER"],
            [
                [
                    one["lease"],
                    f"{one['node']}/{_indexes(one)}",
                    show.moment(one["ends_at"]),
                    one["owner"],
                ]
                for one in page["leases"]
            ],
            empty="",
        )


@app.command("add")
def add(  # noqa: PLR0917 - Typer makes every one an option of its own
    name: Annotated[str | None, typer.Argument(help="A DNS label; one is made up if absent.")] = None,
    gpu: Annotated[str, typer.Option(help="Whole devices of one node: 1, A100:2")] = "1",
    from_: Annotated[
        str | None, typer.Option("--from", help="From when: 14:00, or 2026-01-31T14:00; absent: now.")
    ] = None,
    for_: Annotated[str | None, typer.Option("--for", help="How long: 4h")] = None,
    until: Annotated[
        str | None, typer.Option(help="Until when: 18:00 after its start, or 2026-01-31T18:00")
    ] = None,
    cpus: Annotated[str | None, typer.Option(help="Cores: 2, 0.5")] = None,
    memory: Annotated[str | None, typer.Option(help="16G")] = None,
    node: Annotated[str | None, typer.Option(help="Only on this node.")] = None,
    project: Annotated[str, typer.Option(help="Its members may lease under it.")] = "default",
    json: Json = False,
) -> None:
    """Reserve devices; nobody else has them then."""
    if (for_ is None) == (until is None):
        raise Invalid("Say for how long, in one way.", hint="Add --for 4h, or --until 18:00.")
    here = datetime.now().astimezone()
    start = parse_until(from_, here) if from_ else None
    end = parse_until(until, start or here) if until else None
    ask = {
        "name": name, "gpu": gpu, "cpus": cpus, "memory": memory, "node": node, "project": project, "ttl": for_,
        "starts_at": start.isoformat() if start else None, "until": end.isoformat() if end else None,
    }  # fmt: skip
    with client() as server:
        made = server.call(
            "POST", "/reservations", json={key: value for key, value in ask.items() if value is not None}
        )
    if json:
        show.as_json(made)
        return
    print(f"{show.bold(made['name'])} is reserved: GPU {_indexes(made)} of {made['node']}")
    show.facts(
        (
            ("from", show.moment(made["starts_at"])),
            ("until", show.moment(made["ends_at"])),
            ("use it", f"lease up --reservation {made['name']} --gpu {made['gpu']}"),
            ("give up", f"lease reserve cancel {made['name']}"),
        )
    )


@app.command("cancel")
def cancel(name: Annotated[str, typer.Argument(help="Its name or id.")], json: Json = False) -> None:
    """Give it up; leases under it go on."""
    from leasing.sdk.transport import at  # lazy: see session.client

    with client() as server:
        made = server.call("DELETE", at("reservations", name))
    if json:
        show.as_json(made)
    else:
        print(f"{made['name']} is {made['state']}; anybody may have its devices.")


def _indexes(one: dict[str, Any]) -> str:
    return ",".join(str(device["index"]) for device in one["devices"])
