"""What is typed on the server's own machine: each loads the parts that it needs when it runs."""

from __future__ import annotations

import typer

from leasing.cli import admin
from leasing.cli.session import App


def register(app: App) -> None:
    app.command("serve")(serve)
    for name, function in (
        ("backup", backup), ("restore", restore), ("signin-link", signin_link), ("uninstall", uninstall),
    ):  # fmt: skip
        admin.app.command(name)(function)


def serve(
    role: str = typer.Option("all", help="all, api, scheduler, gateway or node."),
    listen: str | None = typer.Option(None, help="Address to listen on; anything but loopback brings TLS."),
) -> None:
    """Run the platform on this machine."""
    import logging  # lazy, as are those below: only servers need them
    import os
    import signal
    import sys
    import threading

    from leasing.settings.core import CoreSettings

    if listen is not None:
        os.environ["LEASING_LISTEN"] = listen
    settings = CoreSettings()
    logging.basicConfig(
        level=settings.log_level,
        format=f"%(asctime)s %(levelname)s {role} %(name)s: %(message)s",
        stream=sys.stderr,
    )
    for chatty in ("httpx", "httpcore", "apscheduler", "alembic", "urllib3", "docker"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if role == "all":
        from leasing.cli import serve as platform

        platform.serve(settings, stop)
    else:
        from leasing.cli import part

        part.serve(role, settings, stop)


def backup(path: str = typer.Argument(help="File to write.")) -> None:
    """Write everything the platform knows into one file; on the server's machine."""
    from leasing.cli import host  # lazy: needs the database

    host.backup(path)


def restore(path: str = typer.Argument(help="File that backup wrote.")) -> None:
    """Replace everything the platform knows by a backup; on the server's machine, while it is stopped."""
    from leasing.cli import host  # lazy: needs the database

    host.restore(path)


def signin_link(name: str = typer.Argument("", help="Whose; the first admin's if absent.")) -> None:
    """A one-time link, also when nobody can sign in any more; on the server's machine."""
    from leasing.cli import host  # lazy: needs the database

    host.signin_link(name or None)


def uninstall(
    yes: bool = typer.Option(False, "--yes", help="Do not ask."),
    workspaces: bool = typer.Option(False, "--workspaces", help="Remove people's workspaces too."),
) -> None:
    """Remove this installation's containers, networks and data; on the server's machine."""
    from leasing.cli import host  # lazy: needs the engine

    host.uninstall(yes=yes, workspaces=workspaces)
