"""The command `lease`, put together."""

from __future__ import annotations

import typer

from leasing import __version__
from leasing.cli import admin, demo, execute, leases, login, offers, up
from leasing.cli.session import App, reports_errors

app = App(name="lease", help="Lease GPU containers. Sign in first: lease login LINK")
up.register(app)
leases.register(app)
execute.register(app)
offers.register(app)
login.register(app)
demo.register(app)
app.add_typer(admin.app, name="admin")


@app.callback(invoke_without_command=True)
def version(show_version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    if show_version:
        print(f"lease {__version__}")
        raise typer.Exit


@app.command("serve")
def serve(
    role: str = typer.Option("all", help="all, api, scheduler, gateway or node."),
    listen: str | None = typer.Option(None, help="Address to listen on; anything but loopback brings TLS."),
) -> None:
    """Run the platform on this machine."""
    from leasing.cli.serve import serve as run  # lazy: loads every part

    run(role, listen)


@admin.app.command("backup")
def backup(path: str = typer.Argument(help="File to write.")) -> None:
    """Write everything the platform knows into one file; on the server's machine."""
    from leasing.cli import host  # lazy: needs the database

    host.backup(path)


@admin.app.command("restore")
def restore(path: str = typer.Argument(help="File that backup wrote.")) -> None:
    """Replace everything the platform knows by a backup; on the server's machine, while it is stopped."""
    from leasing.cli import host  # lazy: needs the database

    host.restore(path)


@admin.app.command("signin-link")
def signin_link(name: str = typer.Argument("", help="Whose; the first admin's if absent.")) -> None:
    """A one-time link, also when nobody can sign in any more; on the server's machine."""
    from leasing.cli import host  # lazy: needs the database

    host.signin_link(name or None)


@admin.app.command("uninstall")
def uninstall(
    yes: bool = typer.Option(False, "--yes", help="Do not ask."),
    workspaces: bool = typer.Option(False, "--workspaces", help="Remove people's workspaces too."),
) -> None:
    """Remove this installation's containers, networks and data; on the server's machine."""
    from leasing.cli import host  # lazy: needs the engine

    host.uninstall(yes=yes, workspaces=workspaces)


def main() -> None:
    """The console script."""
    reports_errors(app)()


if __name__ == "__main__":
    main()
