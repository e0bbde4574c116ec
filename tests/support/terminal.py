"""The command `lease` in a process of its own: as a script runs it, and on a terminal."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Sequence

from tests.support.stack import LEASE


def run(*arguments: str, text: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, as a script would."""
    return subprocess.run(
        [LEASE, *arguments], env=dict(os.environ) | environment, capture_output=True, text=True, input=text or "",
        check=False, timeout=30,
    )  # fmt: skip


PATIENCE_SECONDS = 3.0


def on_terminal(
    arguments: Sequence[str],
    *,
    columns: int = 80,
    until: str = "",
    interrupt: bool = False,
    **environment: str,
) -> tuple[int, str]:
    """On a terminal of that width: exit code, and all that it showed. `interrupt` is Ctrl-C once `until` is shown.

    Like a person it is pressed again when nothing has come of it for a while.
    """
    screen, keyboard = os.openpty()
    child = subprocess.Popen(
        # a test run in the background of a shell is deaf to Ctrl-C, and its children would be, too
        ["env", "--default-signal=INT", "setsid", "--ctty", LEASE, *arguments],
        stdin=keyboard, stdout=keyboard, stderr=keyboard,
        env=dict(os.environ) | environment | {"COLUMNS": str(columns), "TERM": "xterm"},
    )  # fmt: skip
    os.close(keyboard)
    shown, deadline, press_at = b"", time.monotonic() + 30, 0.0
    while time.monotonic() < deadline:
        if interrupt and until.encode() in shown and time.monotonic() > press_at:
            os.write(screen, b"\x03")
            press_at = time.monotonic() + PATIENCE_SECONDS
        if not select.select([screen], [], [], 0.05)[0]:
            continue
        try:
            shown += os.read(screen, 65536)
        except OSError:
            break  # what reading a terminal says whose last process has gone
    try:
        return child.wait(10), shown.decode()
    finally:
        os.close(screen)  # not sooner: who is still on its way out would be told that its terminal hung up
