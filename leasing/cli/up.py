"""`lease up`: ask, see what happens, and be told how to go on."""

from __future__ import annotations

import os
import shutil
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from leasing.cli import endpoint, show
from leasing.cli.session import INTERRUPTED, App, Json, sdk
from leasing.errors import Invalid, LeasingError, NoRoom, Unavailable
from leasing.units import parse_until

if TYPE_CHECKING:
    from leasing.schema.lease import LeaseOut
    from leasing.sdk.lease import Lease

LOOK_SECONDS = 0.25
AGAIN_SECONDS = 1.0
PATIENCE_SECONDS = 60.0


def register(app: App) -> None:
    app.command("up", context_settings={"ignore_unknown_options": False})(up)


def up(  # noqa: PLR0917 - Typer makes every one an option of its own
    name: Annotated[str | None, typer.Argument(help="A DNS label; one is made up if absent.")] = None,
    command: Annotated[
        list[str] | None, typer.Argument(help="After --: what to run; else the image's own.")
    ] = None,
    image: Annotated[str | None, typer.Option(help="Environment (lease images) or image reference.")] = None,
    gpu: Annotated[str, typer.Option(help="1, A100:2, 0.5, 24GB, 1g.10gb")] = "0",
    cpus: Annotated[str | None, typer.Option(help="Cores: 2, 0.5")] = None,
    memory: Annotated[str | None, typer.Option(help="16G")] = None,
    shm: Annotated[str | None, typer.Option(help="Shared memory: 2G")] = None,
    for_: Annotated[str | None, typer.Option("--for", help="How long: 4h")] = None,
    until: Annotated[str | None, typer.Option(help="Until when: 18:00, or 2026-01-31T18:00")] = None,
    idle: Annotated[str | None, typer.Option(help="Take it back when idle so long: 30m, never")] = None,
    on_suspend: Annotated[
        str | None, typer.Option(help="Run inside before it is suspended: 'python save.py'")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port of the application, to be its endpoint.")] = None,
    share: Annotated[
        bool, typer.Option("--share", help="With the members of its project: viewers call, developers enter.")
    ] = False,
    cache: endpoint.Cache = None,
    wake: endpoint.Wake = None,
    rate: endpoint.Rate = None,
    burst: endpoint.Burst = None,
    max_body: endpoint.MaxBody = None,
    timeout: endpoint.Timeout = None,
    inside: endpoint.Inside = None,
    workspace: Annotated[
        str | None, typer.Option(help="Files that stay, at /workspace: data, vision/data, data:ro")
    ] = None,
    env: Annotated[list[str] | None, typer.Option(help="NAME=VALUE; may be given again.")] = None,
    project: Annotated[str, typer.Option(help="In whose name: lease projects")] = "default",
    priority: Annotated[str, typer.Option(help="Class in the queue: low, normal, high")] = "normal",
    preemptible: Annotated[
        bool,
        typer.Option("--preemptible", help="May be suspended when others need its place; goes on later."),
    ] = False,
    node: Annotated[str | None, typer.Option(help="Only on the node of that name.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE: only on nodes with it; may be given again.")
    ] = None,
    reservation: Annotated[str | None, typer.Option(help="Use what is reserved: lease reserve")] = None,
    at_least: Annotated[
        str | None, typer.Option(help="A reservation may cut its time down to this: 1h")
    ] = None,
    wait: Annotated[bool, typer.Option("--queue/--no-wait", help="Wait for room, or refuse at once.")] = True,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Ask, and do not watch.")] = False,
    json: Json = False,
) -> None:
    """Ask for a lease and watch it start."""
    ends = parse_until(until, datetime.now().astimezone()) if until else None
    if ends and for_:
        raise Invalid("--for and --until say the same thing twice.", hint="Give one of them.")
    with sdk() as platform:
        lease = platform.up(
            name=name, image=image, gpu=gpu, cpus=cpus, memory=memory, shm=shm, ttl=for_, until=ends,
            idle_timeout=idle, command=command or None,
            on_suspend=["sh", "-c", on_suspend] if on_suspend else None, env=_pairs(env, "--env EPOCHS=3"), port=port,
            share=share, endpoint=endpoint.asked(cache, wake, rate, burst, max_body, timeout, inside) or None,
            workspace=workspace, project=project, priority=priority, preemptible=preemptible, node=node,
            labels=_pairs(label, "--label disk=fast"), reservation=reservation, at_least=at_least, wait=wait,
        )  # fmt: skip
        follow(lease, detach=detach, json=json)


def follow(lease: Lease, *, detach: bool, json: bool) -> None:
    """Watch a lease that was asked for until it runs, unless detached, and say how to go on."""
    detached = detach or not _watch(lease, quiet=json)
    if json:
        show.as_json(lease.facts.model_dump(mode="json"))
    elif detach:
        print(f"{lease.name} is {_where(lease.facts)}")
        print(f"{show.GAP}See how it goes: lease show {lease.name}")
    elif not detached:
        _tell(lease.facts)
    if detached and not detach:
        raise typer.Exit(INTERRUPTED)


def _pairs(pairs: list[str] | None, example: str) -> dict[str, str]:
    found = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise Invalid(f"{pair[:60]!r} is not NAME=VALUE.", hint=f"For example: {example}")
        found[name] = value
    return found


def _watch(lease: Lease, *, quiet: bool) -> bool:
    """One line that says where it is, until it runs. False when Ctrl-C ended the watching, which the lease survives."""
    line = _Line(quiet)
    began = time.monotonic()
    try:
        while lease.state not in ("running", "suspended", "ended"):
            line.say(_where(lease.facts))
            time.sleep(LOOK_SECONDS)
            _look(lease, line)
    except KeyboardInterrupt:
        line.end()
        way = f"Go on: lease show {lease.name}, lease why {lease.name}, or give it up: lease release {lease.name}"
        print(f"\nNot watching any more; {lease.name} keeps its place.\n{show.GAP}{way}", file=sys.stderr)
        return False
    line.end()
    facts = lease.facts
    if facts.state == "ended":
        if facts.reason == "cancelled" and not facts.request.wait:
            raise NoRoom(facts.message, hint="Without --no-wait it would wait in the queue: lease queue")
        log = f"\n{facts.last_log.rstrip()}" if facts.last_log else ""
        raise LeasingError(
            f"{facts.name} ended ({facts.reason}): {facts.message}{log}",
            hint=f"All of it: lease show {facts.name}",
        )
    if facts.state == "suspended":
        raise LeasingError(
            f"{facts.name} is suspended: {facts.message}", hint=f"Go on: lease resume {facts.name}"
        )
    if not quiet:
        print(f"{show.bold(facts.name)} is {show.state('running')} after {time.monotonic() - began:.1f} s")
    return True


def _look(lease: Lease, line: _Line) -> None:
    """How it is now; a server that is being restarted is waited for. Raises `Unavailable` when it stays away."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not _refreshed(lease, line, final=time.monotonic() > deadline):
        time.sleep(AGAIN_SECONDS)


def _refreshed(lease: Lease, line: _Line, *, final: bool) -> bool:
    try:
        lease.refresh()
    except Unavailable as error:
        if final:
            raise Unavailable(
                f"{error.message} {lease.name} goes its way all the same.",
                hint=f"Later: lease show {lease.name}",
            ) from error
        line.say(f"{error.message} Asking again.")
        return False
    return True


def _where(facts: LeaseOut) -> str:
    if facts.queue is not None:
        start = show.expected(facts.queue.model_dump()) or "not known when"
        why = f": {facts.queue.blockers[0]}" if facts.queue.blockers else ""
        return f"queued, number {facts.queue.position}, {start}{why}" if why else "queued, next to be placed"
    return f"{facts.state}: {facts.progress}" if facts.progress else facts.state


def _tell(facts: LeaseOut) -> None:
    show.facts(
        (
            ("devices", ", ".join(f"GPU {device.index} {device.model}" for device in facts.devices)),
            ("endpoint", facts.endpoint_url or ""),
            (
                "call it",
                f'curl -H "Authorization: Bearer $(lease token)" {facts.endpoint_url}'
                if facts.endpoint_url
                else "",
            ),
            ("shell", f"lease exec {facts.name}"),
            ("ends", show.moment(facts.ends_at)),
            ("idle", facts.policy.said if facts.policy else ""),
            ("give back", f"lease release {facts.name}"),
        )
    )


class _Line:
    """One line that changes in place on a terminal; a line a change elsewhere."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._last = ""
        self._live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def say(self, text: str) -> None:
        if self._quiet or text == self._last:
            return
        self._last = text
        if self._live:
            room = shutil.get_terminal_size((80, 24)).columns - 1
            print(f"\r\033[K{show.plain(text)[:room]}", end="", file=sys.stderr, flush=True)
        else:
            print(show.plain(text), file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._last and self._live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
