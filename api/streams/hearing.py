"""What comes from a terminal's other end: typing, a new size, the end of input."""

from __future__ import annotations

import json
from uuid import UUID

from fastapi import WebSocket

from api.streams import threads
from leasing.drivers.streaming import ExecStream
from leasing.errors import LeasingError

MAX_CONTROL = 1000


async def hear(socket: WebSocket, process: ExecStream, lease_id: UUID) -> bool:
    """Give it all to the process. True when the caller left, False when the process has ended before."""
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return True
            if (data := message.get("bytes")) is not None:
                socket.app.state.typed.add(lease_id, data)
                await threads.wait_for(socket.app, process.write, data)
            elif (text := message.get("text")) is not None and len(text) <= MAX_CONTROL:
                await threads.wait_for(socket.app, _control, process, text)
    except (OSError, RuntimeError, LeasingError):
        return False  # the reading side reports its exit


def _control(process: ExecStream, text: str) -> None:
    try:
        wish = json.loads(text)
    except (ValueError, RecursionError):
        return
    match wish:
        case {"resize": [int(columns), int(rows)]} if 0 < columns <= 1000 and 0 < rows <= 1000:
            process.resize(columns=columns, rows=rows)
        case {"eof": True}:
            process.end_input()
