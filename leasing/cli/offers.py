"""What there is: free room, environments, and who waits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from leasing.cli import show
from leasing.cli.session import App, Json, listing
from leasing.units import format_duration, format_size


def register(app: App) -> None:
    for function in (offers, images, queue):
        app.command(function.__name__)(function)


def offers(json: Json = False) -> None:
    """What is free now, and when the rest frees."""
    page = listing(
        "/offers",
        json,
        ["NODE", "FREE GPUS", "FREE CPUS", "FREE MEMORY", "LABELS"],
        lambda one: [
            one["node"],
            _gpus(one),
            f"{one['cpus_free']:g} of {one['cpus']:g}",
            f"{format_size(one['memory_free_bytes'])} of {format_size(one['memory_bytes'])}",
            show.labels(one.get("labels", {})),
        ],
        empty="No node is ready. What is wrong with each: lease admin nodes",
    )
    if json:
        return
    for said in _next(page["items"]):
        print(said)
    if page["queue_depth"]:
        print(f"Waiting already: {page['queue_depth']}. See: lease queue")


def images(json: Json = False) -> None:
    """Environments for --image; any image reference will do as well."""
    listing(
        "/images",
        json,
        ["NAME", "STATE", "WHAT IT IS"],
        lambda one: [one["name"], "ready" if one["ready"] else "built on first use", one["description"]],
        empty="The catalogue is empty. Name any image: lease up demo --image python:3.12-slim",
    )


def queue(json: Json = False) -> None:
    """Who waits, in the order of service."""
    page = listing(
        "/queue",
        json,
        ["#", "LEASE", "OWNER", "GPU", "CPUS", "MEMORY", "SINCE", "EXPECTED", "WHY"],
        lambda one: [
            str(one["position"]),
            one["lease"],
            _standing(one),
            one["gpu"] if one["gpu"] != "0" else "-",
            f"{one['cpus']:g}",
            format_size(one["memory_bytes"]),
            show.moment(one["queued_at"]),
            show.expected(one) or "-",
            one["blockers"][0] if one["blockers"] else "",
        ],
        empty="Nobody waits. What is free: lease offers",
    )
    if page.get("accuracy") and not json:
        print(_accuracy(page["accuracy"]))


def _standing(one: dict[str, Any]) -> str:
    """Whose it is, with what else decides its place."""
    project = [one["project"]] if one["project"] != "default" else []
    priority = [one["priority"]] if one["priority"] != "normal" else []
    return f"{one['owner']} ({', '.join(project + priority)})" if project or priority else str(one["owner"])


def _next(offers: Sequence[dict[str, Any]]) -> Iterator[str]:
    """When the next device of each model comes free, and where."""
    first: dict[str, tuple[datetime, str]] = {}
    for offer in offers:
        for one in offer.get("frees", []):
            found = datetime.fromisoformat(one["at"]), offer["node"]
            first[one["model"]] = min(first.get(one["model"], found), found)
    for model, (at, node) in sorted(first.items()):
        yield f"The next {model} frees {show.moment(at)} on {node}, at the latest."


def _accuracy(past: dict[str, Any]) -> str:
    """How good forecasts were, in a line."""
    by_latest = past["by_latest_ratio"]
    kept = "" if by_latest is None else f"; {by_latest:.0%} started by the latest time told"
    half = format_duration(past["median_error_seconds"])
    return f"Forecasts of the last {past['days']} days: half within {half}{kept}."


def _gpus(offer: dict[str, Any]) -> str:
    free, total = offer["devices_free"], offer["devices_total"]
    whole = [f"{free.get(model, 0)} of {total[model]} {model}" for model in sorted(total)]
    parts = [
        f"{one['share'] / 1000:g} of one {one['model']} with {format_size(one['memory_bytes'])}"
        for one in offer.get("parts_free", [])
    ]
    return ", ".join([*whole, *parts]) or "none"
