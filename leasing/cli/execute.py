"""`lease exec`: a shell or a command inside the container, as if it ran here."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from leasing.cli.session import App, client

if TYPE_CHECKING:
    from leasing.sdk.terminal import Terminal

CHUNK = 64 * 1024


def register(app: App) -> None:
    app.command("exec")(execute)


def execute(
    name: Annotated[str, typer.Argument(help="The lease's name or id.")],
    command: Annotated[
        list[str] | None, typer.Argument(help="After --: what to run; a shell if absent.")
    ] = None,
) -> None:
    """Run a command, or a shell, inside a lease; its exit code is ours."""
    from leasing.sdk.terminal import Terminal  # lazy: few commands need WebSockets

    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    size = shutil.get_terminal_size()
    with client() as session:
        lease = session.lease(name)
        with Terminal.open(
            session.transport,
            lease.facts.id,
            command or [],
            tty=interactive,
            columns=size.columns,
            rows=size.lines,
        ) as terminal:
            with _raw(terminal) if interactive else contextlib.nullcontext():
                threading.Thread(target=_feed, args=(terminal,), daemon=True).start()
                for data in terminal.output():
                    sys.stdout.buffer.write(data)
                    sys.stdout.buffer.flush()
            raise typer.Exit(terminal.exit_code)


def _feed(terminal: Terminal) -> None:
    """What is typed or piped in goes to the command, until there is no more."""
    while data := os.read(sys.stdin.fileno(), CHUNK):
        terminal.write(data)
    terminal.end_input()


@contextlib.contextmanager
def _raw(terminal: Terminal) -> Iterator[None]:
    """Every key goes through, and a change of the window's size too."""
    before = termios.tcgetattr(sys.stdin)
    handler = signal.signal(signal.SIGWINCH, lambda *_: terminal.resize(*shutil.get_terminal_size()))
    tty.setraw(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        signal.signal(signal.SIGWINCH, handler)
