"""The command `lease`, put together: of a command line only the file that it names is loaded."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module

import typer

from leasing import __version__
from leasing.cli.session import App, run

FILES = {
    "up": ("up",),
    "leases": (
        "ls",
        "show",
        "why",
        "logs",
        "events",
        "extend",
        "suspend",
        "resume",
        "restart",
        "release",
        "end",
    ),
    "keep": ("keep",),
    "execute": ("exec",),
    "copying": ("cp",),
    "opening": ("open",),
    "ssh": ("ssh", "ssh-proxy", "config-ssh"),
    "endpoint": ("endpoint",),
    "offers": ("offers", "images", "queue"),
    "reserve": ("reserve",),
    "projects": ("projects",),
    "quotas": ("quota",),
    "workspaces": ("workspace",),
    "demo": ("demo",),
    "login": ("login", "logout", "whoami", "tokens"),
    "share": ("share", "unshare", "token"),
    "admin": ("admin",),
    "simulate": ("admin",),
    "policies": ("admin",),
    "policy_trial": ("admin",),
    "notify": ("notify",),
    "server": ("serve", "admin"),
    "usage": ("usage",),
    "warm": ("admin",),
}
"""Of this package, with the words that each makes commands of: to load them all takes longer than one of them runs."""
HELP = "Lease GPU containers. Sign in first: lease login LINK. Then, for example: lease up demo --for 1h"


def application(word: str | None = None) -> App:
    """With the command that `word` names; with all of them for any other word, and for help and completion."""
    app = App(name="lease", help=HELP)
    known = any(word in words for words in FILES.values())
    for file, words in FILES.items():
        if not known or word in words:
            import_module(f"leasing.cli.{file}").register(app)

    @app.callback()
    def lease(
        context: typer.Context,
        version: bool = typer.Option(False, "--version", help="Print the version."),
    ) -> None:
        if version:
            print(f"lease {__version__}")
        else:
            app.alone(context)

    return app


def execute(arguments: Sequence[str]) -> int:
    """What a shell would say to `lease ARGUMENTS`, and the exit code."""
    word = next((one for one in arguments if not one.startswith("-")), None)
    command = _command(word)
    return run(lambda: command(list(arguments), prog_name="lease", standalone_mode=False), arguments)


@cache  # for who runs many in one process: to put the admin's commands together takes longer than to run one
def _command(word: str | None) -> Callable[..., object]:
    return typer.main.get_command(application(word)).main


def main() -> None:
    """The console script."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a sign less, rather than no answer
    # None says that httpx's own command line is not installed, which httpx provides for. It would load click, rich and
    # pygments, which takes longer than all that a short command does.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # what import takes for "there is none"
    code = execute(sys.argv[1:])
    if "leasing.cli.part" in sys.modules:  # a server's process has things to end in order
        sys.exit(code)
    # All is closed by now. For the interpreter to take apart what it loaded is a tenth of what a short command takes.
    with suppress(BrokenPipeError):
        sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
