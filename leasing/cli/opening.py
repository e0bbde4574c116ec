"""`lease open`: a lease in the browser."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any, Literal

import typer

from leasing.cli import show
from leasing.cli.session import App, Json, client
from leasing.errors import Conflict
from leasing.sdk.transport import at

What = Literal["endpoint", "jupyter", "terminal", "files"]
NOTEBOOK = "jupyter"
"""The environment whose endpoint is one."""


def register(app: App) -> None:
    app.command("open")(open_in_browser)


def open_in_browser(
    name: Annotated[str, typer.Argument(help="The lease's name or id.")],
    what: Annotated[
        What | None,
        typer.Argument(
            help="endpoint, jupyter, terminal or files; if absent the endpoint, else the terminal."
        ),
    ] = None,
    print_only: Annotated[bool, typer.Option("--print", help="Print its address, and open nothing.")] = False,
    json: Json = False,
) -> None:
    """Open a lease in the browser: its endpoint, JupyterLab, a terminal, or its files."""
    with client() as server:
        lease = server.call("GET", at("leases", name))
        wanted = what or ("endpoint" if lease["endpoint_url"] else "terminal")
        _check(lease, wanted)
        path = {"terminal": f"/leases/{lease['name']}/terminal", "files": f"/leases/{lease['name']}/files"}
        url = server.url + path.get(wanted, f"/open/{lease['name']}")
    if json:
        show.as_json({"url": url, "opened": wanted})
    elif print_only or not _opened(url):
        print(url)
    else:
        print(f"Opened the {wanted} of {lease['name']}: {url}")


def _check(lease: Any, wanted: str) -> None:
    """Raises `Conflict` for what it has not, or not now."""
    name = lease["name"]
    wakes = wanted == "endpoint" and lease["state"] == "suspended"
    if lease["state"] != "running" and not wakes:
        raise Conflict(f"Lease {name!r} is {lease['state']}.", hint=f"See: lease why {name}")
    if wanted in ("endpoint", "jupyter") and not lease["endpoint_url"]:
        raise Conflict(
            f"Lease {name!r} has no endpoint: it was asked for without a port.",
            hint=f"Open a terminal: lease open {name} terminal",
        )
    if wanted == "jupyter" and not _notebook(lease):
        raise Conflict(
            f"Lease {name!r} runs no JupyterLab.", hint="One that does: lease up notebook --image jupyter"
        )


def _notebook(lease: Any) -> bool:
    """Its environment is one, or what listens there was seen to be one."""
    signals = (lease.get("idle") or {}).get("signals") or ()
    return lease["image"] == NOTEBOOK or any(one["kind"] == "kernel" for one in signals)


def _opened(url: str) -> bool:
    """Whether a browser was there to take it; one in this terminal is none."""
    shows = sys.platform in ("darwin", "win32") or any(
        os.environ.get(one) for one in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    )
    if not shows:
        return False
    import webbrowser  # lazy: no other command needs it

    return webbrowser.open(url)
