"""`lease up`: ask, see what happens, and be told how to go on."""

from __future__ import annotations

import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from leasing.cli import show
from leasing.cli.session import App, Json, client
from leasing.errors import Invalid, LeasingError, NoRoom
from leasing.units import format_duration, parse_until

if TYPE_CHECKING:
    from leasing.schema.lease import LeaseOut
    from leasing.sdk.client import Lease

LOOK_SECONDS = 0.25


def register(app: App) -> None:
    app.command("up", context_settings={"ignore_unknown_options": False})(up)


def up(  # noqa: PLR0917 - Typer makes every one an option of its own
    name: Annotated[str | None, typer.Argument(help="A DNS label; one is made up if absent.")] = None,
    command: Annotated[
        list[str] | None, typer.Argument(help="After --: what to run; else the image's own.")
    ] = None,
    image: Annotated[str | None, typer.Option(help="Environment (lease images) or image reference.")] = None,
    gpu: Annotated[str, typer.Option(help="1, 2, A100, A100:2")] = "0",
    cpus: Annotated[str | None, typer.Option(help="Cores: 2, 0.5")] = None,
    memory: Annotated[str | None, typer.Option(help="16G")] = None,
    shm: Annotated[str | None, typer.Option(help="Shared memory: 2G")] = None,
    for_: Annotated[str | None, typer.Option("--for", help="How long: 4h")] = None,
    until: Annotated[str | None, typer.Option(help="Until when: 18:00, or 2026-01-31T18:00")] = None,
    idle: Annotated[str | None, typer.Option(help="Take it back when idle so long: 30m, never")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the application, to be its endpoint.")] = None,
    workspace: Annotated[str | None, typer.Option(help="Persistent volume at /workspace.")] = None,
    env: Annotated[list[str] | None, typer.Option(help="NAME=VALUE; may be given again.")] = None,
    project: Annotated[str, typer.Option(help="What it is for.")] = "default",
    wait: Annotated[bool, typer.Option("--queue/--no-wait", help="Wait for room, or refuse at once.")] = True,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Ask, and do not watch.")] = False,
    json: Json = False,
) -> None:
    """Ask for a lease and watch it start."""
    from leasing.schema.lease import LeaseRequest  # lazy: --help needs no wire models

    ends = parse_until(until, datetime.now().astimezone()) if until else None
    if ends and for_:
        raise Invalid("--for and --until say the same thing twice.", hint="Give one of them.")
    with client() as session:
        lease = session.up(
            LeaseRequest(
                name=name, image=image, gpu=gpu, cpus=cpus, memory=memory, shm=shm, ttl=for_, until=ends,
                idle_timeout=idle, command=command or None, env=_environment(env or []), port=port,
                workspace=workspace, project=project, wait=wait,
            )
        )  # fmt: skip
        if not detach:
            _watch(lease, quiet=json)
        if json:
            show.as_json(lease.facts)
        elif detach:
            print(f"{lease.name} is {lease.state}. Watch it: lease show {lease.name}")
        else:
            _tell(lease.facts)


def _environment(pairs: list[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise Invalid(f"{pair[:60]!r} is not NAME=VALUE.", hint="For example: --env EPOCHS=3")
        found[name] = value
    return found


def _watch(lease: Lease, *, quiet: bool) -> None:
    """One line that says where it is, until it runs. Ctrl-C leaves the lease its place."""
    line = _Line(quiet)
    began = time.monotonic()
    try:
        while lease.state not in ("running", "ended"):
            line.say(_where(lease.facts))
            time.sleep(LOOK_SECONDS)
            lease.refresh()
    except KeyboardInterrupt:
        line.end()
        show.problem(f"Not watching any more; {lease.name} keeps its place.", f"See: lease show {lease.name}")
        raise typer.Exit(0) from None
    line.end()
    facts = lease.facts
    if facts.state == "ended":
        if facts.reason == "cancelled" and not facts.request.wait:
            raise NoRoom(facts.message, hint="Without --no-wait it would wait in the queue: lease queue")
        log = f"\n{facts.last_log.rstrip()}" if facts.last_log else ""
        raise LeasingError(f"{facts.name} ended ({facts.reason}): {facts.message}{log}")
    if not quiet:
        print(f"{show.bold(facts.name)} is {show.state('running')} after {time.monotonic() - began:.1f} s")


def _where(facts: LeaseOut) -> str:
    if facts.queue is not None:
        why = f": {facts.queue.blockers[0]}" if facts.queue.blockers else ""
        return f"queued, number {facts.queue.position}{why}"
    return f"{facts.state}: {facts.progress}" if facts.progress else facts.state


def _tell(facts: LeaseOut) -> None:
    rows = []
    if facts.devices:
        rows.append(("devices", ", ".join(f"GPU {device.index} {device.model}" for device in facts.devices)))
    if facts.endpoint_url:
        rows.append(("endpoint", facts.endpoint_url))
        rows.append(("call it", f'curl -H "Authorization: Bearer $(lease token)" {facts.endpoint_url}'))
    rows.append(("shell", f"lease exec {facts.name}"))
    rows.append(("ends", show.moment(facts.ends_at)))
    if facts.request.idle_timeout_seconds:
        rows.append(
            ("idle", f"taken back after {format_duration(facts.request.idle_timeout_seconds)} of quiet")
        )
    rows.append(("give back", f"lease release {facts.name}"))
    for key, value in rows:
        print(f"  {show.dim(key.ljust(9))}  {value}")


class _Line:
    """One line that changes in place on a terminal; a line a change elsewhere."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._last = ""
        self._live = sys.stderr.isatty()

    def say(self, text: str) -> None:
        if self._quiet or text == self._last:
            return
        self._last = text
        print(
            f"\r\033[K{text[:110]}" if self._live else text,
            end="" if self._live else "\n",
            file=sys.stderr,
            flush=True,
        )

    def end(self) -> None:
        if self._last and self._live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
