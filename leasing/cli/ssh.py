"""`lease ssh`: OpenSSH's own client into a lease, through the api; and the same for whatever else uses that client."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from leasing.cli import show, ssh_config
from leasing.cli.session import App, Json, client, exit_code
from leasing.errors import HostError, LeasingError

if TYPE_CHECKING:
    from leasing.sdk.tunnel import Tunnel

CHUNK = 64 * 1024
FAILED = 255
"""ssh's exit code for its own failures."""


def register(app: App) -> None:
    options = {"allow_interspersed_args": False}
    app.command("ssh", context_settings=options)(ssh)
    app.command("ssh-proxy", hidden=True)(proxy)
    app.command("config-ssh")(config)


def ssh(
    name: Annotated[str, typer.Argument(help="The lease's name or id.")],
    rest: Annotated[
        list[str] | None,
        typer.Argument(help="ssh's own options (-L, -t, -N…), then, after --, what to run; else a shell."),
    ] = None,
) -> None:
    """Go into a lease by SSH, as ssh does: `lease ssh train`, `lease ssh train -L 8888:localhost:8888`."""
    program = shutil.which("ssh")
    if program is None:
        raise HostError(
            "There is no ssh on this machine.",
            hint=f"Install OpenSSH's client, or go in without it: lease exec {name}",
        )
    ssh_config.prepare()
    given = [word for option in ssh_config.options() for word in ("-o", option)]
    command = [program, *given, ssh_config.host(name), *(rest or [])]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for what runs in the lease, and ssh hears it
    started = os.posix_spawn(program, command, os.environ, setsigdef=[signal.SIGINT])
    code = os.waitstatus_to_exitcode(os.waitpid(started, 0)[1])
    if code == FAILED:
        code = _refused(name.removesuffix(ssh_config.SUFFIX))
    raise typer.Exit(code if code >= 0 else 128 - code)


def proxy(
    name: Annotated[str, typer.Argument(help="The lease's name or id; a final .lease is left out.")],
) -> None:
    """For ssh's ProxyCommand: carry one connection over standard input and output."""
    from leasing.sdk.tunnel import Tunnel  # lazy: few commands need WebSockets

    ssh_config.prepare()
    ref = name.removesuffix(ssh_config.SUFFIX)
    with client() as server, Tunnel.open(server, ref, key=ssh_config.public_key()) as tunnel:
        # before the server's first byte, so that ssh finds it when it looks
        ssh_config.know(name, tunnel.host_key)
        threading.Thread(target=_feed, args=(tunnel,), daemon=True).start()
        out = sys.stdout.fileno()
        for data in tunnel.output():
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(out, rest) :]


def config(
    remove: Annotated[
        bool, typer.Option("--remove", help="Take it out of your SSH configuration again.")
    ] = False,
    json: Json = False,
) -> None:
    """Let `ssh NAME.lease` work, and scp, sftp, rsync, VS Code and JetBrains with it."""
    changed = ssh_config.uninstall() if remove else ssh_config.install()
    if json:
        show.as_json({"file": str(ssh_config.file()), "removed": remove, "changed": changed})
    elif remove:
        print(f"Removed {ssh_config.file()}." if changed else "There was nothing to remove.")
    else:
        print(f"{'Written' if changed else 'Unchanged'}: {ssh_config.file()}, which ~/.ssh/config includes.")
        print(f"{show.GAP}Now: ssh NAME{ssh_config.SUFFIX}, for any of your leases (lease ls)")


def _refused(name: str) -> int:
    """The exit code of why there was no connection, which has been said by then; ssh's own where it is not known."""
    from leasing.sdk.transport import at  # lazy: see session.client

    try:
        with client() as server:
            lease = server.call("GET", at("leases", name))
    except LeasingError as error:
        return exit_code(error)
    return FAILED if lease["state"] == "running" else 1


def _feed(tunnel: Tunnel) -> None:
    """What ssh says goes into the lease, until it says no more."""
    inward = sys.stdin.fileno()
    while data := os.read(inward, CHUNK):
        tunnel.write(data)
    tunnel.close()
