"""Running one short command inside a container, for its outcome."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Sequence
from typing import Any

from docker.errors import APIError

from leasing.drivers.docker.connection import Connection
from leasing.drivers.docker.errors import translated
from leasing.drivers.docker.streams import ExecStream
from leasing.drivers.protocol import Ran

MOST_OUTPUT = 16 * 1024
NOT_EXECUTED = 127
BEGIN_LOOKS, LOOK_SECONDS = 50, 0.1
"""The engine answers before it has made a command's process, and slowly where it is busy."""


class Commands:
    """The part of the driver that asks containers something."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def run(self, container_id: str, command: Sequence[str], *, seconds: float) -> Ran:
        with self._connection.call() as client:
            made = client.exec_create(container_id, list(command), stdin=False, tty=False)["Id"]
            try:
                held = client.exec_start(made, socket=True)
            except APIError as error:
                if error.status_code != 400:
                    raise
                # there is no such executable: for some engines that is a refusal, for others an exit code
                return Ran(exit_code=NOT_EXECUTED, output=translated(str(error.explanation)).message)
            stream = ExecStream(self._connection, made, held, tty=False)
            late = threading.Event()
            cut = threading.Timer(seconds, self._cut, (client, made, stream, late))
            cut.daemon = True
            cut.start()
            try:
                output = _end_of(stream)
            finally:
                cut.cancel()
            facts = client.exec_inspect(made)
            over = not late.is_set() and not facts["Running"]
            with contextlib.suppress(OSError):
                stream.close()
        return Ran(exit_code=int(facts["ExitCode"]) if over else None, output=output)

    def _cut(self, client: Any, exec_id: str, stream: ExecStream, late: threading.Event) -> None:
        """It takes too long. The engine itself can end no command that it runs: only who shares its machine can."""
        late.set()
        with contextlib.suppress(Exception):  # an engine that is gone by now has ended it
            if self._connection.address.startswith("unix://") and (pid := _begun(client, exec_id)):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        stream.hang_up()


def _begun(client: Any, exec_id: str) -> int | None:
    """Its process, once the engine has made it; None if it has ended, or does not begin within a few seconds."""
    for _ in range(BEGIN_LOOKS):
        facts = client.exec_inspect(exec_id)
        if facts.get("Pid"):
            return int(facts["Pid"]) if facts["Running"] else None
        if facts["ExitCode"] is not None:
            return None
        time.sleep(LOOK_SECONDS)
    return None


def _end_of(stream: ExecStream) -> str:
    kept = b""
    while chunk := stream.read():
        kept = (kept + chunk)[-MOST_OUTPUT:]
    return kept.decode(errors="replace").replace("\0", "")
