"""Looking at leases, extending and releasing them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from leasing.cli import show
from leasing.cli.session import App, Json, client
from leasing.errors import Invalid
from leasing.units import format_duration, format_size, parse_until

if TYPE_CHECKING:
    from leasing.schema.lease import LeaseOut

Name = Annotated[str, typer.Argument(help="The lease's name or id.")]


def register(app: App) -> None:
    for name, function in (
        ("ls", ls), ("show", show_lease), ("release", release), ("extend", extend), ("logs", logs),
        ("events", events), ("why", why), ("queue", queue),
    ):  # fmt: skip
        app.command(name)(function)
    app.command("end", hidden=True)(release)


def ls(
    everyone: Annotated[bool, typer.Option("--everyone", "-e", help="Everybody's; for admins.")] = False,
    ended: Annotated[bool, typer.Option("--all", "-a", help="Ended ones too.")] = False,
    json: Json = False,
) -> None:
    """Your leases, newest first."""
    with client() as session:
        found = list(session.leases(everyone=everyone, ended=ended))
    if json:
        show.as_json(found)
        return
    columns = ["NAME", "STATE", "GPU", "CPUS", "MEMORY", "ENDS", "IMAGE"]
    rows = [
        [
            lease.name,
            lease.state,
            lease.request.gpu if lease.request.gpu != "0" else "-",
            f"{lease.request.cpus:g}",
            format_size(lease.request.memory_bytes),
            _ends(lease),
            lease.image,
        ]
        for lease in found
    ]
    if everyone:
        columns.insert(1, "OWNER")
        for row, lease in zip(rows, found, strict=True):
            row.insert(1, lease.owner)
    show.table(columns, rows, empty="You have no leases. Get one: lease up demo --for 1h")


def show_lease(name: Name, json: Json = False) -> None:
    """One lease in full."""
    with client() as session:
        lease = session.lease(name).facts
    if json:
        show.as_json(lease)
        return
    print(
        f"{show.bold(lease.name)} is {show.state(lease.state)}"
        + (f" ({lease.reason})" if lease.reason else "")
    )
    if lease.message:
        print(f"  {lease.message}")
    for key, value in _rows(lease):
        print(f"  {show.dim(key.ljust(10))}  {value}")
    if lease.last_log:
        print(show.dim("  last output"))
        for line in lease.last_log.rstrip().splitlines()[-10:]:
            print(f"    {line}")


def release(name: Name, json: Json = False) -> None:
    """Give a lease back."""
    with client() as session:
        lease = session.lease(name).release()
    if json:
        show.as_json(lease)
    elif lease.state == "ended":
        print(f"{lease.name} has ended ({lease.reason}).")
    else:
        print(f"{lease.name} is being released.")


def extend(
    name: Name,
    by: Annotated[str | None, typer.Argument(help="How much longer: 2h")] = None,
    until: Annotated[str | None, typer.Option(help="Or until when: 18:00")] = None,
    json: Json = False,
) -> None:
    """Move a lease's deadline."""
    if (by is None) == (until is None):
        raise Invalid("Say how much longer, or until when.", hint=f"lease extend {name} 2h")
    with client() as session:
        lease = session.lease(name)
        if by is not None:
            facts = lease.extend(by)
        else:
            moment = parse_until(until or "", datetime.now().astimezone())
            session.call("POST", f"/leases/{lease.facts.id}/renew", json={"until": moment.isoformat()})
            facts = lease.refresh()
    if json:
        show.as_json(facts)
    else:
        print(f"{facts.name} ends {show.moment(facts.ends_at or facts.request.until)}")


def logs(
    name: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it prints.")] = False,
    tail: Annotated[int | None, typer.Option(help="Only the last lines.")] = None,
) -> None:
    """What a lease's command prints."""
    with client() as session:
        for piece in session.lease(name).logs(follow=follow, tail=tail):
            print(piece, end="", flush=True)


def events(
    name: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it ends.")] = False,
    json: Json = False,
) -> None:
    """What happened to a lease, and who did it."""
    with client() as session:
        for event in session.lease(name).events(follow=follow):
            if json:
                print(event.model_dump_json(), flush=True)
            else:
                when = f"{event.at.astimezone():%H:%M:%S}"
                kind = event.kind.removeprefix("lease.")
                print(
                    f"{show.dim(when)}  {kind.ljust(9)}  {event.message} {show.dim(f'({event.actor})')}",
                    flush=True,
                )


def why(name: Name, json: Json = False) -> None:
    """Why a lease is where it is, and what stands in its way."""
    with client() as session:
        found = session.lease(name).why()
    if json:
        show.as_json(found)
        return
    print(found.summary)
    for blocker in found.blockers:
        print(f"  - {blocker}")


def queue(json: Json = False) -> None:
    """Who waits, in the order of service."""
    from leasing.schema.lease import QueuePage  # lazy: see session.client

    with client() as session:
        page = QueuePage.model_validate(session.call("GET", "/queue"))
    if json:
        show.as_json(page)
        return
    show.table(
        ["#", "LEASE", "OWNER", "GPU", "CPUS", "MEMORY", "SINCE", "WHY"],
        [
            [
                str(one.position),
                one.lease,
                one.owner,
                one.gpu,
                f"{one.cpus:g}",
                format_size(one.memory_bytes),
                show.moment(one.queued_at),
                one.blockers[0] if one.blockers else "",
            ]
            for one in page.items
        ],
        empty="Nobody waits.",
    )


def _ends(lease: LeaseOut) -> str:
    if lease.state == "ended":
        return f"{lease.reason}"
    if lease.queue is not None:
        return f"number {lease.queue.position} in the queue"
    return show.moment(lease.ends_at)


def _rows(lease: LeaseOut) -> list[tuple[str, str]]:
    return [(key, value) for key, value in (*_asked(lease), *_times(lease), *_outcome(lease)) if value]


def _asked(lease: LeaseOut) -> list[tuple[str, str]]:
    ask = lease.request
    gpu = f", GPU {ask.gpu}" if ask.gpu != "0" else ""
    return [
        ("image", lease.image),
        ("has", f"{ask.cpus:g} CPUs, {format_size(ask.memory_bytes)}{gpu}"),
        *(("device", f"GPU {one.index} {one.model} {one.uuid}") for one in lease.devices),
        ("node", lease.node or ""),
        ("workspace", f"{ask.workspace} at /workspace" if ask.workspace else ""),
        ("command", " ".join(ask.command or [])),
        ("endpoint", lease.endpoint_url or ""),
        ("queue", f"number {lease.queue.position}; {'; '.join(lease.queue.blockers)}" if lease.queue else ""),
        ("progress", lease.progress),
    ]


def _times(lease: LeaseOut) -> list[tuple[str, str]]:
    times = [("asked", show.moment(lease.created_at))]
    if lease.started_at:
        times.append(("started", show.moment(lease.started_at)))
    if lease.ended_at:
        times.append(("ended", show.moment(lease.ended_at)))
    elif lease.ends_at:
        times.append(("ends", show.moment(lease.ends_at)))
    elif lease.request.ttl_seconds:
        times.append(("runs for", format_duration(lease.request.ttl_seconds)))
    return times


def _outcome(lease: LeaseOut) -> list[tuple[str, str]]:
    found = []
    if lease.exit_code is not None:
        found.append(("exit code", f"{lease.exit_code}" + (" (out of memory)" if lease.oom_killed else "")))
    if lease.idle is not None:
        allowed = lease.request.idle_timeout_seconds
        limit = f"; taken back after {format_duration(allowed)}" if allowed else ""
        found.append(("activity", f"{lease.idle.verdict}: {lease.idle.reason}{limit}"))
    return found
