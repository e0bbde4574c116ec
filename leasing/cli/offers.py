"""What there is: free room, and environments."""

from __future__ import annotations

from leasing.cli import show
from leasing.cli.session import App, Json, client
from leasing.units import format_size


def register(app: App) -> None:
    app.command("offers")(offers)
    app.command("images")(images)


def offers(json: Json = False) -> None:
    """What is free now."""
    from leasing.schema.cluster import OfferPage  # lazy: see session.client

    with client() as session:
        page = OfferPage.model_validate(session.call("GET", "/offers"))
    if json:
        show.as_json(page)
        return
    rows = []
    for one in page.items:
        models = sorted(one.devices_total)
        gpus = ", ".join(
            f"{one.devices_free.get(model, 0)} of {one.devices_total[model]} {model}" for model in models
        )
        rows.append(
            [
                one.node,
                gpus or "none",
                f"{one.cpus_free:g} of {one.cpus:g}",
                f"{format_size(one.memory_free_bytes)} of {format_size(one.memory_bytes)}",
            ]
        )
    show.table(
        ["NODE", "FREE GPUS", "FREE CPUS", "FREE MEMORY"],
        rows,
        empty="No node is ready: lease admin nodes ls",
    )
    if page.queue_depth:
        print(f"{page.queue_depth} wait: lease queue")


def images(json: Json = False) -> None:
    """Environments to choose from with --image; any image reference will do as well."""
    from leasing.schema.cluster import EnvironmentPage  # lazy: see session.client

    with client() as session:
        page = EnvironmentPage.model_validate(session.call("GET", "/images"))
    if json:
        show.as_json(page)
        return
    rows = [[one.name, "ready" if one.ready else "built on first use", one.description] for one in page.items]
    show.table(["NAME", "STATE", "WHAT IT IS"], rows, empty="The catalogue is empty.")
