"""`lease admin history`, `simulate` and `demand`: what has happened, played again or carried on, on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leasing.cli import admin, show
from leasing.cli.session import App, Json, sdk
from leasing.errors import Invalid
from leasing.units import format_duration, parse_duration

if TYPE_CHECKING:
    from scheduler.policy.demand import Expected
    from scheduler.simulation import report
    from scheduler.simulation.world import Options, World

# What plays the record is the scheduler's own code; it is loaded by these commands alone, and needs no database.

Trace = Annotated[
    Path | None, typer.Option(help="Take this instead: a file of lease admin history, or openb's folder.")
]
Days = Annotated[int, typer.Option(min=1, max=3660, help="How far back.")]


def register(_: App) -> None:
    admin.app.command("history")(history)
    admin.app.command("simulate")(simulate)
    admin.app.command("demand")(demand)


def history(days: Days = 30) -> None:
    """Print what was asked for and what became of it, as JSON lines.

    Keep it in a file, for lease admin simulate --trace FILE: no commands,
    environment variables or output are in it.
    """
    from scheduler.simulation import recorded

    with sdk() as client:
        for line in recorded.lines(client.admin.history(days=days)):
            print(line)


def simulate(
    *,
    days: Days = 30,
    trace: Trace = None,
    fair_share: Annotated[
        bool, typer.Option("--fair-share/--no-fair-share", help="Whether projects take turns by use.")
    ] = True,
    preemption: Annotated[
        bool, typer.Option("--preemption/--no-preemption", help="Whether leases give way.")
    ] = True,
    backfill: Annotated[
        bool, typer.Option("--backfill/--no-backfill", help="Whether small ones go ahead.")
    ] = True,
    idle: Annotated[str | None, typer.Option(help="End leases that are idle for so long: 30m.")] = None,
    longest: Annotated[str | None, typer.Option(help="No lease runs longer: 8h.")] = None,
    devices_per_user: Annotated[
        float | None, typer.Option(min=0, help="Refuse whoever would have more.")
    ] = None,
    nodes: Annotated[
        int | None, typer.Option(min=1, help="On so many nodes; copies follow the ones there are.")
    ] = None,
    more_nodes: Annotated[int, typer.Option(min=0, help="As tried, with so many more.")] = 0,
    json: Json = False,
) -> None:
    """Play the last days again under another policy, beside the present one."""
    from scheduler.policy.planner import Policy
    from scheduler.simulation.world import Options, with_nodes

    world = _world(days, trace)
    world = with_nodes(world, nodes) if nodes else world
    options = Options(
        Policy(fair_share=fair_share, backfill=backfill, preemption=preemption),
        parse_duration(idle) if idle else None,
        parse_duration(longest) if longest else None,
        devices_per_user,
    )
    _tell(world, with_nodes(world, len(world.nodes) + more_nodes), options, json=json)


def demand(days: Days = 30, trace: Trace = None, json: Json = False) -> None:
    """What will probably be asked for in the next 24 hours, by environment."""
    from scheduler.policy.demand import Asked, expected
    from scheduler.simulation.play import moment

    world = _world(days, trace)
    asked = [Asked(moment(one.at), one.environment, one.devices) for one in world.asked]
    found = expected(asked, moment(world.ends))
    if json:
        show.as_json([asdict(one) | {"at": one.at.isoformat()} for one in found])
        return
    environments = sorted({one.environment for one in found})
    show.table(
        ["ENVIRONMENT", "REQUESTS", "GPUS", "BUSIEST HOUR"],
        [_demand([one for one in found if one.environment == name]) for name in environments],
        empty="Nothing was asked for in that time, so nothing is foretold.",
    )


def _demand(hours: Sequence[Expected]) -> Sequence[str]:
    busiest = max(hours, key=lambda one: (one.requests, one.devices))
    return (
        busiest.environment or "-",
        f"{sum(one.requests for one in hours):.1f}",
        f"{sum(one.devices for one in hours):.1f}",
        f"{busiest.at.astimezone():%a %H:%M} ({busiest.requests:.1f})",
    )


def _world(days: int, trace: Path | None) -> World:
    from scheduler.simulation import openb, recorded

    if trace is None:
        with sdk() as client:
            return recorded.world(client.admin.history(days=days))
    if trace.is_dir():
        return openb.world(trace)
    with trace.open(encoding="utf-8", errors="replace") as lines:
        return recorded.world([recorded.read(lines)])


def _tell(world: World, tried: World, options: Options, *, json: bool) -> None:
    from scheduler.simulation import report
    from scheduler.simulation.play import play
    from scheduler.simulation.world import Options as Present

    if not world.devices:
        raise Invalid("None of the nodes has a device that may be leased.", hint="lease admin devices ls")
    before, after = play(world, Present()), play(tried, options)
    is_now, is_tried = report.told(world, before), report.told(tried, after)
    leases, owners = report.leases(world, before, after), report.owners(world, before, after)
    waited = report.recorded(world)
    if json:
        show.as_json(
            {
                "recorded": report.as_json(waited) if waited else None,
                "as_it_is": report.as_json(is_now),
                "as_tried": report.as_json(is_tried),
                "leases": report.as_json(leases),
                "owners": report.as_json(owners),
                "notes": list(world.notes),
            }
        )
        return
    days = (world.ends - world.begins) / 86_400
    print(f"{is_now.leases} leases of {days:.0f} days on {world.devices} devices, played twice:")
    show.table(["", "AS IT IS", "AS TRIED"], _rows(is_now, is_tried), empty="")
    if waited:
        print(f"Really waited, by the record: median {_wait(waited.median)}, mean {_wait(waited.mean)}.")
    for note in world.notes:
        print(f"Of the record, {note}.")
    for title, some in (("LEASE", leases), ("OWNER", owners)):
        print()
        show.table(
            [f"MOST AFFECTED {title}", "OF", "WAIT AS IT IS", "AS TRIED"],
            [[one.name, one.owner, _wait(one.as_it_is), _wait(one.as_tried)] for one in some],
            empty=f"No {title.lower()} waits longer or shorter.",
        )


def _rows(before: report.Told, after: report.Told) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [
        (f"wait, {word}", _wait(getattr(before.waits, name)), _wait(getattr(after.waits, name)))
        for word, name in (("mean", "mean"), ("median", "median"), ("p90", "p90"), ("p99", "p99"))
    ]
    rows.append(("wait, mean by devices", _wait(before.waits.weighted), _wait(after.waits.weighted)))
    rows.append(("devices leased", f"{before.utilisation:.1%}", f"{after.utilisation:.1%}"))
    rows.append(("preemptions", str(before.preemptions), str(after.preemptions)))
    rows += [
        (f"refused: {why}", str(before.refused.get(why, 0)), str(after.refused.get(why, 0)))
        for why in sorted({*before.refused, *after.refused})
    ]
    rows += [
        (f"project {name}", _project(before, name), _project(after, name))
        for name in sorted({*before.projects, *after.projects})
    ]
    return rows


def _project(of: report.Told, name: str) -> str:
    found: Any = of.projects.get(name)
    return f"{found.part:.0%} of use, waits {_wait(found.waits.mean)}" if found else "-"


def _wait(seconds: float | None) -> str:
    return "no place" if seconds is None else format_duration(seconds)
