"""What a lease's endpoint is told besides its port, when it is asked for and while it lives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from leasing.cli import show
from leasing.cli.session import App, Json, client
from leasing.units import format_duration, format_size

Cache = Annotated[str | None, typer.Option(help="Answer equal calls from a cache for so long: 60s, off")]
Wake = Annotated[
    bool | None, typer.Option("--wake/--no-wake", help="Suspended as idle, the next call resumes it.")
]
Inside = Annotated[
    bool | None,
    typer.Option(
        "--inside/--no-inside", help="It is a way in, as a notebook is: only who may enter may call."
    ),
]
Rate = Annotated[float | None, typer.Option(help="Calls a second at most: 100; 0 is no limit")]
Burst = Annotated[int | None, typer.Option(help="So many at once above that: 200")]
MaxBody = Annotated[str | None, typer.Option(help="Largest body of a call: 1GB, off")]
Timeout = Annotated[str | None, typer.Option(help="Give up a call not answered within: 10m, off")]


def register(app: App) -> None:
    app.command("endpoint")(endpoint)


def asked(
    cache: str | None,
    wake: bool | None,
    rate: float | None,
    burst: int | None,
    max_body: str | None,
    timeout: str | None,
    inside: bool | None,
) -> dict[str, Any]:
    """Of an `EndpointRequest` what was given."""
    options = {
        "cache": cache,
        "wake": wake,
        "rate": rate,
        "burst": burst,
        "max_body": max_body,
        "timeout": timeout,
        "inside": inside,
    }
    return {name: value for name, value in options.items() if value is not None}


def endpoint(  # noqa: PLR0917 - Typer makes every one an option of its own
    name: Annotated[str, typer.Argument(help="The lease's name or id.")],
    cache: Cache = None,
    wake: Wake = None,
    rate: Rate = None,
    burst: Burst = None,
    max_body: MaxBody = None,
    timeout: Timeout = None,
    inside: Inside = None,
    json: Json = False,
) -> None:
    """What a lease's endpoint was told, or what it is told now: at once, while it runs."""
    from leasing.sdk.transport import at  # lazy: see session.client

    options = asked(cache, wake, rate, burst, max_body, timeout, inside)
    with client() as server:
        if options:
            lease = server.call("PATCH", at("leases", name, "endpoint"), json=options)
        else:
            lease = server.call("GET", at("leases", name))
    if json:
        show.as_json(lease)
        return
    if not lease["endpoint_url"]:
        print(f"{lease['name']} has no endpoint: it was asked for without a port.")
        return
    print(f"{show.bold(lease['name'])} {lease['endpoint_url']}")
    show.facts(said(lease["endpoint"]))


def said(options: dict[str, Any]) -> list[tuple[str, str]]:
    """An `EndpointOptions` in lines, each of its options in one."""
    defaults = {"cache": "off", "wake": "off", "for": "whoever may call the lease"}
    return [(name, text or defaults.get(name, "no limit")) for name, text in _lines(options)]


def set_of(options: dict[str, Any]) -> list[tuple[str, str]]:
    """The same of those only that were set."""
    return [(name, text) for name, text in _lines(options) if text]


def _lines(options: dict[str, Any]) -> Iterator[tuple[str, str]]:
    cache, rate, burst = options.get("cache_seconds"), options.get("rate"), options.get("burst")
    body, timeout = options.get("body_max_bytes"), options.get("timeout_seconds")
    yield "cache", f"answers are kept for {format_duration(cache)}" if cache else ""
    yield "wake", "when idle, woken by the next call" if options.get("wake") else ""
    yield "for", "only who may enter the lease" if options.get("inside") else ""
    yield "rate", f"{rate:g} calls a second{f', {burst} at once' if burst else ''}" if rate else ""
    yield "max body", format_size(body) if body else ""
    yield "timeout", format_duration(timeout) if timeout else ""
