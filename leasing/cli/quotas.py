"""`lease quota` and `lease admin quotas`: what users and projects may have, and what is left of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from leasing.cli import show
from leasing.cli.session import App, Json, client
from leasing.errors import Invalid
from leasing.units import format_duration, parse_duration

HOUR = 3600
COLUMNS = ("WHOSE", "WHAT", "LIMIT", "TAKEN", "LEFT", "FREES")

limits = App(help="What users and projects may have.")

Subject = Annotated[str, typer.Argument(help="users/NAME or projects/NAME")]


def register(to: App) -> None:
    to.command("quota")(quota)


def quota(json: Json = False) -> None:
    """What you and your projects may have, and what is left of it."""
    _show({}, json, empty="You have no limits.")


@limits.command("ls")
def list_quotas(json: Json = False) -> None:
    """All that were set; everybody else has the platform's defaults."""
    _show(
        {"everyone": True},
        json,
        empty="None is set. For example: lease admin quotas set users/ada --devices 4 --device-hours 100 --window 7d",
    )


@limits.command("set")
def set_quota(
    subject: Subject,
    devices: Annotated[float | None, typer.Option(help="GPUs held or waited for; parts count: 1.5")] = None,
    leases: Annotated[int | None, typer.Option(help="Live leases.")] = None,
    device_hours: Annotated[float | None, typer.Option(help="GPU-hours in any --window: 100")] = None,
    window: Annotated[str | None, typer.Option(help="In whole hours: 24h, 7d")] = None,
    json: Json = False,
) -> None:
    """Set all of its limits: what is not named is not limited, or, for users, as the platform's default."""
    seconds = parse_duration(window) if window is not None else None
    if seconds is not None and seconds % HOUR:
        raise Invalid(f"{window!r} is not in whole hours.", hint="Write it like 24h or 7d.")
    if (device_hours is None) != (seconds is None):
        raise Invalid(
            "--device-hours and --window go together.", hint="For example: --device-hours 100 --window 7d"
        )
    given = {
        "max_devices": devices,
        "max_leases": leases,
        "device_hours": device_hours,
        "window_hours": seconds // HOUR if seconds is not None else None,
    }
    with client() as server:
        made = server.call("PUT", _at(subject), json=given)
    if json:
        show.as_json(made)
    else:
        show.table(COLUMNS, list(_rows(made)), empty=f"{subject} has no limits.")


@limits.command("clear")
def clear(subject: Subject) -> None:
    """Back to the platform's defaults."""
    with client() as server:
        server.call("DELETE", _at(subject))
    print(f"{subject} has no limits of its own.")


def _at(subject: str) -> str:
    from leasing.sdk.transport import at  # lazy: see session.client

    kind, _, name = subject.partition("/")
    if kind not in ("users", "projects") or not name:
        raise Invalid(
            f"{subject[:60]!r} is nobody's limit.", hint="Write it like users/ada or projects/vision."
        )
    return at("quotas", kind, name)


def _show(params: dict[str, bool], json: bool, *, empty: str) -> None:
    with client() as server:
        page = server.call("GET", "/quotas", params=params)
    if json:
        show.as_json(page)
    else:
        show.table(COLUMNS, [row for one in page["items"] for row in _rows(one)], empty=empty)


def _rows(one: dict[str, Any]) -> Iterator[list[str]]:
    """A line for each limit."""
    whose = one["subject"].removeprefix("users/").replace("projects/", "project ")
    for what, most, has in (
        ("GPUs", one["max_devices"], one["devices"]),
        ("live leases", one["max_leases"], one["leases"]),
    ):
        if most is not None:
            yield [whose, what, f"{most:g}", f"{has:g}", f"{max(0, most - has):g}", "-"]
    if one["device_hours"] is None:
        return
    used, ahead = one["used_device_hours"], one["to_come_device_hours"]
    left = max(0.0, one["device_hours"] - used - ahead)
    yield [
        whose,
        f"GPU-hours in any {format_duration(one['window_hours'] * HOUR)}",
        f"{one['device_hours']:g}",
        f"{used:.1f} used, {ahead:.1f} to come" if ahead else f"{used:.1f} used",
        f"{left:.1f}",
        show.moment(one["frees_at"]),
    ]
