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
STDIN = 0


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

    interactive = os.isatty(STDIN) and sys.stdout.isatty()
    size = shutil.get_terminal_size()
    with (
        client() as server,
        Terminal.open(
            server, name, command or [], tty=interactive, columns=size.columns, rows=size.lines, aside=_aside
        ) as terminal,
    ):
        with _raw(terminal) if interactive else contextlib.nullcontext():
            threading.Thread(target=_feed, args=(terminal,), daemon=True).start()
            for data in terminal.output():
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
        raise typer.Exit(terminal.exit_code)


def _aside(data: bytes) -> None:
    sys.stderr.buffer.write(data)
    sys.stderr.buffer.flush()


def _feed(terminal: Terminal) -> None:
    """What is typed or piped in goes to the command, until there is no more; a closed input is one without any."""
    with contextlib.suppress(OSError):
        while data := os.read(STDIN, CHUNK):
            terminal.write(data)
    terminal.end_input()


@contextlib.contextmanager
def _raw(terminal: Terminal) -> Iterator[None]:
    """Every key goes through, and a change of the window's size too."""
    before = termios.tcgetattr(STDIN)
    handler = signal.signal(signal.SIGWINCH, lambda *_: terminal.resize(*shutil.get_terminal_size()))
    tty.setraw(STDIN)
    try:
        yield
    finally:
        termios.tcsetattr(STDIN, termios.TCSADRAIN, before)
        signal.signal(signal.SIGWINCH, handler)
