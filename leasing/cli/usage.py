"""`lease usage`, `lease admin capacity` and `lease admin price`: what was allocated, used and left, and its cost."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from leasing.cli import show
from leasing.cli.session import App, Json, client, listing
from leasing.errors import Invalid
from leasing.units import parse_until

HOUR = 3600
GIB_HOUR = 1024**3 * HOUR
PAGE = 1000
WHOLE = 0.995
"""As good as all of it."""
CLASSES = ("leased", "held", "free", "foreign", "out", "unknown")
BY = ("lease", "user", "project", "model", "day")
DEVICES_BY = ("day", "hour", "device", "model", "node")

Days = Annotated[
    int | None, typer.Option(help="The last so many days; 7 unless something else is asked for.")
]
Month = Annotated[str | None, typer.Option(help="Like 2026-11, in this machine's zone.")]
From = Annotated[str | None, typer.Option("--from", help="Like 2026-11-01 or 2026-11-01T08:00")]
To = Annotated[str | None, typer.Option("--to", help="Absent: now.")]
Csv = Annotated[bool, typer.Option("--csv", help="All of it as a table for a spreadsheet.")]

prices = App(help="What an hour of a device costs.")


def register(to: App) -> None:
    to.command("usage")(usage)


def register_admin(to: App) -> None:
    to.command("capacity")(capacity)
    to.add_typer(prices, name="price")


def usage(
    *,
    days: Days = None,
    month: Month = None,
    since: From = None,
    until: To = None,
    by: Annotated[str, typer.Option(help=", ".join(BY))] = "lease",
    everyone: Annotated[
        bool, typer.Option("--everyone", "-e", help="Of the projects you own; admins: everybody's.")
    ] = False,
    user: Annotated[str | None, typer.Option(help="Only this user's.")] = None,
    project: Annotated[str | None, typer.Option(help="Only this project's.")] = None,
    lease: Annotated[str | None, typer.Option(help="Only this lease's, by name or id.")] = None,
    model: Annotated[str | None, typer.Option(help="Only devices of this model, like A100.")] = None,
    csv: Csv = False,
    json: Json = False,
) -> None:
    """What was allocated to your leases, and what of it they used."""
    filters = {"user": user, "project": project, "lease": lease, "model": model}
    asked = _period(days, month, since, until) | {"by": _one_of(by, BY), "everyone": everyone}
    asked |= {key: value for key, value in filters.items() if value is not None}
    page = _answer("/usage", asked, csv, json)
    if page is None:
        return
    priced = page["priced"]
    show.table(
        [
            *_named(by),
            "GPU HOURS",
            "USED",
            "MEASURED",
            "CPU HOURS",
            "USED",
            "GB HOURS",
            *(["COST"] if priced else []),
        ],
        [[*_names(by, one), *_amounts(one, priced)] for one in page["items"]],
        empty="Nothing was used in that time. A longer one: lease usage --days 30",
    )
    if page["items"]:
        print()
        print(_sentence(page))
        _more(page, "lease usage --csv")


def capacity(
    *,
    days: Days = None,
    month: Month = None,
    since: From = None,
    until: To = None,
    by: Annotated[str, typer.Option(help=", ".join(DEVICES_BY))] = "day",
    csv: Csv = False,
    json: Json = False,
) -> None:
    """Where devices' time went: every second of each is in one class, and they sum to capacity."""
    asked = _period(days, month, since, until) | {"by": _one_of(by, DEVICES_BY)}
    page = _answer("/usage/devices", asked, csv, json)
    if page is None:
        return
    show.table(
        [by.upper(), "GPU HOURS", *(one.upper() for one in CLASSES)],
        [
            _classes(f"{one['node']}/{one['key']}" if one["node"] else one["key"], one)
            for one in page["items"]
        ],
        empty="No device has been reported in that time. See: lease admin devices",
    )
    if page["items"]:
        print()
        total = page["total"]
        parts = " + ".join(f"{_hours(total[one])} {one}" for one in CLASSES)
        print(f"{parts} = {_hours(total['capacity'])} GPU hours, all there were.")
        _more(page, "lease admin capacity --csv")


@prices.command("ls")
def list_prices(json: Json = False) -> None:
    """What is set."""
    listing(
        "/prices",
        json,
        ["MODEL", "PER HOUR"],
        lambda one: [one["model"], f"{one['per_hour']:.2f}"],
        empty="No price is set. For example: lease admin price set A100 2.50",
    )


@prices.command("set")
def set_price(
    model: Annotated[str, typer.Argument(help="A part of the model's name: A100")],
    per_hour: Annotated[float, typer.Argument(help="For a whole device, in your currency: 2.50")],
    json: Json = False,
) -> None:
    """Set what an hour of a device costs; it holds for what was used before, too."""
    from leasing.sdk.transport import at  # lazy: see session.client

    with client() as server:
        made = server.call("PUT", at("prices", model), json={"per_hour": per_hour})
    if json:
        show.as_json(made)
    else:
        print(f"An hour of a device whose model has {model} in its name costs {per_hour:.2f}.")


@prices.command("rm")
def remove_price(model: Annotated[str, typer.Argument(help="As it was set.")]) -> None:
    """Remove a price."""
    from leasing.sdk.transport import at  # lazy: see session.client

    with client() as server:
        server.call("DELETE", at("prices", model))
    print(f"{model} has no price of its own any more.")


def local_zone() -> str:
    """This machine's zone by its name, as $TZ or the system says it; UTC where that is not known."""
    named = os.environ.get("TZ", "").removeprefix(":")
    link = str(Path("/etc/localtime").resolve()) if not named else ""
    name = named or link.partition("/zoneinfo/")[2]
    return (
        name if name.replace("/", "").replace("_", "").replace("-", "").replace("+", "").isalnum() else "UTC"
    )


def _period(days: int | None, month: str | None, since: str | None, until: str | None) -> dict[str, Any]:
    now = datetime.now().astimezone()
    given: dict[str, Any] = {"days": days, "month": month}
    for name, text in (("from", since), ("to", until)):
        given[name] = None if text is None else parse_until(text, now).isoformat()
    return {key: value for key, value in given.items() if value is not None} | {"zone": local_zone()}


def _one_of(word: str, words: tuple[str, ...]) -> str:
    if word not in words:
        raise Invalid(f"{word[:40]!r} is nothing to count by.", hint=f"Use --by {'|'.join(words)}")
    return word


def _answer(path: str, asked: dict[str, Any], csv: bool, json: bool) -> Any:
    """The page to show; None if it is printed as it is."""
    with client() as server:
        if csv:
            with server.stream(path, params=asked | {"format": "csv"}) as answer:
                for text in answer.iter_text():
                    print(text, end="")
            return None
        page = server.call("GET", path, params=asked | {"limit": PAGE})
    if json:
        show.as_json(page)
        return None
    return page


def _named(by: str) -> list[str]:
    return ["LEASE", "OWNER", "PROJECT"] if by == "lease" else [by.upper()]


def _names(by: str, one: Any) -> list[str]:
    if by == "lease":
        return [one["lease"], one["owner"], one["project"]]
    return [one["key"] or "(CPU and memory)"]


def _amounts(one: Any, priced: bool) -> list[str]:
    """GPU, CPU and memory side by side with what of each was used."""
    devices, cpus = one["device_allocated_seconds"], one["cpu_allocated_seconds"]
    ran, memory = one["ran_seconds"], one["memory_allocated_byte_seconds"]
    cpu_part = one["cpu_measured_seconds"] / ran if ran else 0.0
    cells = [
        _hours(devices) if devices else "-",
        _used(one["device_used_seconds"], one["device_used_ratio"]) if devices else "-",
        _part(one["device_measured_seconds"] / devices) if devices else "-",
        _hours(cpus),
        _used(
            one["cpu_used_seconds"], one["cpu_used_seconds"] / (cpus * cpu_part) if cpus * cpu_part else None
        ),
        f"{memory / GIB_HOUR:.1f}",
    ]
    cost = "-" if one["cost"] is None else f"{one['cost']:.2f}"
    return [*cells, cost] if priced else cells


def _sentence(page: Any) -> str:
    total = page["total"]
    devices, ratio = total["device_allocated_seconds"], total["device_used_ratio"]
    if not devices:
        return f"No GPU was allocated; containers ran for {_hours(total['ran_seconds'])} hours."
    if ratio is None:
        return f"{_hours(devices)} GPU hours were allocated; what was used of them was not measured."
    measured = total["device_measured_seconds"] / devices
    of = "what was allocated" if measured >= WHOLE else f"the {measured:.0%} of them that were measured"
    return f"{_hours(devices)} GPU hours were allocated; used {ratio:.0%} of {of}."


def _used(seconds: float | None, ratio: float | None) -> str:
    return "not measured" if seconds is None or ratio is None else f"{_hours(seconds)} ({ratio:.0%})"


def _part(ratio: float) -> str:
    return "all" if ratio >= WHOLE else f"{ratio:.0%}" if ratio else "none"


def _classes(key: str, one: Any) -> list[str]:
    whole = one["capacity"] or 1.0
    return [key, _hours(one["capacity"]), *(f"{one[name] / whole:.1%}" for name in CLASSES)]


def _hours(seconds: float) -> str:
    """One decimal; two for little."""
    hours = seconds / HOUR
    return f"{hours:.1f}" if hours >= 10 or hours == 0 else f"{hours:.2f}"


def _more(page: Any, command: str) -> None:
    if page["next"] is not None:
        print(f"There are more lines than these {len(page['items'])}. All of them: {command}")
