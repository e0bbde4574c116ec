"""Handing a letter to the process that sends it, and hearing how it went."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from scheduler.delivery.letter import Letter

START_SECONDS = 10.0
"""For the process to begin, beside the time that the letter may take."""
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "SSL_CERT_FILE", "VIRTUAL_ENV")
"""What a sender is told of the environment: none of our secrets, and no proxy, behind which everything looks public."""


def deliver(letter: Letter) -> str:
    """Why it could not be sent; empty if it was. Takes a bounded time, and raises for nothing that others do."""
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "scheduler.delivery.sender"],
            input=letter.dump(), capture_output=True, text=True, timeout=letter.timeout_seconds + START_SECONDS,
            env=environment, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"nothing was heard within {letter.timeout_seconds:g} s"
    try:
        return str(json.loads(done.stdout.splitlines()[-1])["error"])
    except (ValueError, IndexError, KeyError):
        return f"the sender died with exit code {done.returncode}"
