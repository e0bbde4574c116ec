"""`lease admin warm`: containers that wait for leases; for admins."""

from __future__ import annotations

from typing import Annotated

import typer

from leasing.cli import admin, show
from leasing.cli.session import App, Json, client
from leasing.units import format_size

warm = App(help="Containers that are started before anybody asks: a lease that fits one runs at once.")

Image = Annotated[str, typer.Argument(help="Environment or image, as leases ask for it.")]
Node = Annotated[str | None, typer.Option(help="Only on that node; else on each that is open.")]
Gpu = Annotated[str | None, typer.Option(help="Each bound to a free GPU whose model has that in its name.")]


def register(_: App) -> None:
    admin.app.add_typer(warm, name="warm")


@warm.command("ls")
def list_warm(json: Json = False) -> None:
    """What is wanted, and what is ready on each node."""
    with client() as server:
        page = server.call("GET", "/warm")
    if json:
        show.as_json(page)
        return
    show.table(
        ["IMAGE", "NODE", "GPU", "CPUS", "MEMORY", "READY", "WANTED"],
        [
            [
                one["image"], one["node"] or "each", one["gpu"] or "–", f"{one['cpus']:g}",
                format_size(one["memory_bytes"]), str(one["ready"]), str(one["count"]),
            ]
            for one in page["pools"]
        ],
        empty="No environment is kept warm. For example: lease admin warm set base --count 2",
    )  # fmt: skip
    print()
    show.table(
        ["NODE", "WHAT", "IMAGE", "STATE", "COUNT"],
        [
            [one["node"], one["role"], one["image"] or "–", one["state"], str(one["count"])]
            for one in page["items"]
        ],
        empty="Nothing is ready on any node yet.",
    )


@warm.command("set")
def set_warm(
    image: Image,
    count: Annotated[int, typer.Option(help="So many on a node.")] = 1,
    node: Node = None,
    gpu: Gpu = None,
    cpus: Annotated[str | None, typer.Option(help="As leases that name none.")] = None,
    memory: Annotated[str | None, typer.Option(help="As leases that name none.")] = None,
    json: Json = False,
) -> None:
    """Keep containers of an environment started and waiting, for leases of that very size."""
    body = {"image": image, "count": count, "node": node, "gpu": gpu, "cpus": cpus, "memory": memory}
    with client() as server:
        made = server.call("PUT", "/warm/pools", json=body)
    if json:
        show.as_json(made)
        return
    size = f"{made['cpus']:g} CPUs and {format_size(made['memory_bytes'])}"
    print(f"{count} of {image} with {size} will wait {f'on {node}' if node else 'on each open node'}.")


@warm.command("rm")
def remove_warm(image: Image, node: Node = None, gpu: Gpu = None) -> None:
    """Keep it warm no more; leases that have one keep it."""
    params = {name: value for name, value in (("image", image), ("node", node), ("gpu", gpu)) if value}
    with client() as server:
        server.call("DELETE", "/warm/pools", params=params)
    print(f"{image} is kept warm no more.")
