"""Looking at leases, extending and releasing them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import typer

from leasing.cli import show
from leasing.cli.session import App, Json, client, sdk
from leasing.errors import Invalid
from leasing.gpus import WHOLE
from leasing.units import format_duration, format_size, parse_until

Name = Annotated[str, typer.Argument(help="The lease's name or id.")]
Lease = dict[str, Any]
"""A `LeaseOut` as the api writes it: making models of it would take longer than all that these commands do."""

PAGE = 200
KEPT = "kept by its owner"
"""The reason of a lease that was quiet until just now."""


def register(app: App) -> None:
    for name, function in (
        ("ls", ls), ("show", show_lease), ("why", why), ("logs", logs), ("events", events), ("extend", extend),
        ("release", release), ("suspend", suspend), ("resume", resume),
        ("restart", restart),
    ):  # fmt: skip
        app.command(name)(function)
    app.command("end", hidden=True)(release)


def ls(
    everyone: Annotated[
        bool, typer.Option("--everyone", "-e", help="Everybody's, for admins; of their projects, for owners.")
    ] = False,
    ended: Annotated[bool, typer.Option("--all", "-a", help="Ended ones too.")] = False,
    json: Json = False,
) -> None:
    """Your leases and those shared with your projects, newest first."""
    found = list(_leases(everyone=everyone, ended=ended))
    if json:
        show.as_json(found)
        return
    columns = ["NAME", "STATE", "GPU", "CPUS", "MEMORY", "ENDS", "IMAGE"]
    rows = [
        [
            lease["name"],
            lease["state"],
            _gpu(lease),
            f"{lease['request']['cpus']:g}",
            format_size(lease["request"]["memory_bytes"]),
            _ends(lease),
            lease["image"],
        ]
        for lease in found
    ]
    if everyone or len({lease["owner"] for lease in found}) > 1 or any(map(_of_others, found)):
        columns.insert(1, "OWNER")
        for row, lease in zip(rows, found, strict=True):
            row.insert(1, lease["owner"])
    if any(quiet := [_quiet(lease) for lease in found]):
        columns.insert(columns.index("ENDS"), "IDLE")
        for row, said in zip(rows, quiet, strict=True):
            row.insert(columns.index("IDLE"), said or "-")
    whose = "Nobody has a lease." if everyone else "You have no leases. Get one: lease up demo --for 1h"
    show.table(columns, rows, empty=whose if ended else f"{whose}\nEnded ones too: lease ls --all")
    show.warnings(found)


def _of_others(lease: dict[str, Any]) -> bool:
    """Who asked for a lease may share it."""
    return "share" not in lease["may"]


def show_lease(name: Name, json: Json = False) -> None:
    """One lease in full."""
    from leasing.sdk.transport import at  # lazy: see session.client

    with client() as server:
        lease = server.call("GET", at("leases", name))
    if json:
        show.as_json(lease)
        return
    reason = f" ({lease['reason']})" if lease["reason"] else ""
    print(f"{show.bold(lease['name'])} is {show.state(lease['state'])}{reason}")
    for said in (lease["message"], lease.get("warning")):
        if said:
            print(f"{show.GAP}{show.plain(said)}")
    if fault := lease.get("device_fault"):
        print(f"{show.GAP}{show.plain(fault)}; start it anew: lease restart {lease['name']}")
    show.warnings([lease])
    show.facts((*_asked(lease), *_times(lease), *_outcome(lease)))
    if lease["last_log"]:
        print(f"{show.GAP}{show.dim('last output')}")
        for line in lease["last_log"].rstrip().splitlines()[-10:]:
            print(f"{show.GAP * 2}{show.plain(line)}")


def why(name: Name, json: Json = False) -> None:
    """Why a lease is where it is, and what stands in its way."""
    from leasing.sdk.transport import at  # lazy: see session.client

    with client() as server:
        found = server.call("GET", at("leases", name, "why"))
    if json:
        show.as_json(found)
        return
    print(found["summary"])
    if start := show.expected(found):
        print(f"It is expected to start {start}.")
    for blocker in found["blockers"]:
        print(f"{show.GAP}- {blocker}")
    if found.get("policy"):
        print(f"By {found['policy']}.")


def logs(
    name: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it prints.")] = False,
    tail: Annotated[int | None, typer.Option(help="Only the last lines.")] = None,
) -> None:
    """What a lease's command prints."""
    from leasing.sdk import streams  # lazy: see session.client

    with client() as server:
        for piece in streams.logs(server, name, follow=follow, tail=tail):
            print(piece, end="", flush=True)


def events(
    name: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it ends.")] = False,
    json: Json = False,
) -> None:
    """What happened to a lease, and who did it. JSON comes an event a line."""
    from json import dumps

    for event in _events(name, follow=follow):
        if json:
            print(dumps(event), flush=True)
            continue
        when = datetime.fromisoformat(event["at"]).astimezone()
        kind = event["kind"].removeprefix("lease.")
        actor = show.dim(f"({event['actor']})")
        print(f"{show.dim(f'{when:%H:%M:%S}')}  {kind.ljust(9)}  {event['message']} {actor}", flush=True)


def extend(
    name: Name,
    by: Annotated[str | None, typer.Argument(help="How much longer: 2h")] = None,
    until: Annotated[str | None, typer.Option(help="Or until when: 18:00")] = None,
    json: Json = False,
) -> None:
    """Move a lease's deadline, by the usual step unless you say; of a suspended one, keep its files for longer."""
    from leasing.sdk.transport import at  # lazy: see session.client

    if by is not None and until is not None:
        raise Invalid("Say how much longer, or until when, not both.", hint=f"lease extend {name} 2h")
    moment = parse_until(until, datetime.now().astimezone()) if until else None
    body = {"until": moment.isoformat()} if moment else {"ttl": by} if by else {}
    with client() as server:
        lease = server.call("POST", at("leases", name, "renew"), json=body)
    if json:
        show.as_json(lease)
    elif lease["state"] == "suspended":
        print(
            f"{lease['name']} is suspended; its files are kept, and go {show.moment(lease['retain_until'])}"
        )
    elif lease["ends_at"] or lease["request"]["until"]:
        print(f"{lease['name']} ends {show.moment(lease['ends_at'] or lease['request']['until'])}")
        if (lease["idle"] or {}).get("reason") == KEPT:
            print(f"{show.GAP}It was quiet, and is kept although it is: lease show {lease['name']}")
    else:
        print(
            f"{lease['name']} will run for {format_duration(lease['request']['ttl_seconds'])} once it starts"
        )


def release(name: Name, json: Json = False) -> None:
    """Give a lease back."""
    from leasing.sdk.transport import at  # lazy: see session.client

    with client() as server:
        lease = server.call("DELETE", at("leases", name))
    if json:
        show.as_json(lease)
    elif lease["state"] == "ended":
        print(f"{lease['name']} has ended ({lease['reason']}).")
    else:
        print(f"{lease['name']} is being released.")


def suspend(name: Name, json: Json = False) -> None:
    """Stop a lease and keep its files: its devices are free until it goes on."""
    from leasing.sdk.transport import at  # lazy: see session.client

    with client() as server:
        lease = server.call("POST", at("leases", name, "suspend"))
    if json:
        show.as_json(lease)
        return
    doing = "suspended" if lease["state"] == "suspended" else "being suspended"
    print(f"{lease['name']} is {doing}; its files and the time it has left are kept.")
    print(f"{show.GAP}Go on: lease resume {lease['name']}")
    if lease.get("retain_until"):
        print(f"{show.GAP}Its files go {show.moment(lease['retain_until'])} if nobody does.")


def resume(
    name: Name,
    for_: Annotated[str | None, typer.Option("--for", help="Time anew, from when it runs: 4h")] = None,
    until: Annotated[str | None, typer.Option(help="Or until when: 18:00")] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Ask, and do not watch.")] = False,
    json: Json = False,
) -> None:
    """Let a suspended lease go on, and watch it start."""
    from leasing.cli.up import follow  # lazy: so are its own imports

    moment = parse_until(until, datetime.now().astimezone()) if until else None
    with sdk() as platform:
        lease = platform.lease(name)
        lease.resume(for_, until=moment)
        follow(lease, detach=detach, json=json)


def restart(
    name: Name,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Ask, and do not watch.")] = False,
    json: Json = False,
) -> None:
    """Start a lease's container again, its devices attached anew; files and time are kept."""
    from leasing.cli.up import follow  # lazy: so are its own imports

    with sdk() as platform:
        lease = platform.lease(name)
        lease.restart()
        follow(lease, detach=detach, json=json)


def _leases(*, everyone: bool, ended: bool) -> Iterator[Lease]:
    wanted: dict[str, Any] = {"everyone": everyone, "ended": ended, "limit": PAGE}
    with client() as server:
        while True:
            page = server.call("GET", "/leases", params=wanted)
            yield from page["items"]
            if page["next"] is None:
                return
            wanted["cursor"] = page["next"]


def _events(name: str, *, follow: bool) -> Iterator[dict[str, Any]]:
    from leasing.sdk import streams  # lazy: see session.client
    from leasing.sdk.transport import at

    with client() as server:
        if follow:
            yield from streams.events(server, name)
            return
        wanted: dict[str, Any] = {"limit": PAGE}
        while True:
            page = server.call("GET", at("leases", name, "events"), params=wanted)
            yield from page["items"]
            if page["next"] is None:
                return
            wanted["after"] = page["next"]


def _gpu(lease: Lease) -> str:
    gpu: str = lease["request"]["gpu"]
    return gpu if gpu != "0" else "-"


def _quiet(lease: Lease) -> str:
    """For how long nothing has moved in it; empty within the first minute, and where nothing tells."""
    seconds = lease["idle"]["seconds"] if lease["idle"] else 0
    return format_duration(seconds) if seconds >= 60 else ""


def _ends(lease: Lease) -> str:
    if lease["state"] == "ended":
        return str(lease["reason"])
    if lease["queue"] is not None:
        gave_way = "gave way, " if lease.get("suspend_reason") == "preempted" else ""
        return f"{gave_way}number {lease['queue']['position']} in the queue"
    if lease["state"] == "suspended":
        kept = lease.get("retain_until")
        return f"{_left(lease)}{f'; files go {show.moment(kept)}' if kept else ''}"
    return show.moment(lease["ends_at"])


def _left(lease: Lease) -> str:
    """The time that a suspended lease has left."""
    if lease["request"]["until"]:
        return f"ends {show.moment(lease['request']['until'])}"
    seconds = lease["request"]["ttl_seconds"]
    return f"{format_duration(seconds)} left" if seconds else "time over"


def _asked(lease: Lease) -> Iterator[tuple[str, str]]:
    ask, queue = lease["request"], lease["queue"]
    gpu = f", GPU {ask['gpu']}" if ask["gpu"] != "0" else ""
    yield "image", lease["image"]
    yield "has", f"{ask['cpus']:g} CPUs, {format_size(ask['memory_bytes'])}{gpu}"
    for device in lease["devices"]:
        part = f", {device['share'] / 10:g} % of it" if device["share"] < WHOLE else ""
        yield "device", f"GPU {device['index']} {device['model']}{part} {device['uuid']}"
    yield "node", lease["node"] or ""
    yield "workspace", f"{ask['workspace']} at /workspace" if ask["workspace"] else ""
    yield "command", " ".join(ask["command"] or [])
    yield "shared", f"with project {lease['project']}, by {lease['owner']}" if lease["shared"] else ""
    yield "endpoint", lease["endpoint_url"] or ""
    if lease["endpoint_url"]:
        from leasing.cli import endpoint  # lazy: so are its own imports

        yield from endpoint.set_of(lease.get("endpoint") or {})
    yield "queue", f"number {queue['position']}; {'; '.join(queue['blockers'])}" if queue else ""
    yield "expected", show.expected(queue) if queue else ""
    yield "progress", lease["progress"]


def _times(lease: Lease) -> Iterator[tuple[str, str]]:
    yield "asked", show.moment(lease["created_at"])
    if lease["started_at"]:
        yield "started", show.moment(lease["started_at"])
    if lease.get("suspended_at"):
        going = ", goes on when there is room" if lease["queue"] else ""
        yield "suspended", f"{show.moment(lease['suspended_at'])}{going}"
        size = f", {format_size(lease['kept_bytes'])} of disk" if lease.get("kept_bytes") is not None else ""
        yield "keeps", f"{lease.get('keeps') or 'its files'}{size}"
    if lease["state"] == "suspended":
        anew = " --for 4h" if _left(lease) == "time over" else ""
        yield "time", _left(lease)
        if lease.get("retain_until"):
            yield "files go", f"{show.moment(lease['retain_until'])}; later: lease extend {lease['name']} 3d"
        yield "go on", f"lease resume {lease['name']}{anew}"
        return
    if lease["ended_at"]:
        yield "ended", show.moment(lease["ended_at"])
    elif lease["ends_at"]:
        yield "ends", show.moment(lease["ends_at"])
    elif lease["request"]["ttl_seconds"]:
        yield "runs for", format_duration(lease["request"]["ttl_seconds"])


def _outcome(lease: Lease) -> Iterator[tuple[str, str]]:
    if lease["exit_code"] is not None:
        yield "exit code", f"{lease['exit_code']}{' (out of memory)' if lease['oom_killed'] else ''}"
    if lease["idle"] is not None:
        from leasing.cli.keep import kept, signals  # lazy: only this command needs them

        yield "activity", f"{lease['idle']['verdict']}: {lease['idle']['reason']}"
        yield from signals(lease["idle"].get("signals", []))
        yield "kept", kept(lease["keep"]) if lease.get("keep") else ""
    if lease.get("policy"):
        yield "idle", lease["policy"]["said"]
