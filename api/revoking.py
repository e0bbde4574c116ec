"""Taking something away: the answer comes when every gateway acts on it, or says that it is pending."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from sqlalchemy.orm import Session

from api.deps import Unit
from leasing.database import Sessions
from leasing.service import revocation

PATIENCE_SECONDS = 1.0
LOOK_SECONDS = 0.002
"""At first; each look waits half as long again as the one before, up to `LOOK_MOST_SECONDS`."""
LOOK_MOST_SECONDS = 0.02
HEADER = "X-Leasing-In-Force"
YES, PENDING = "yes", "pending"
ANSWERS: dict[str, Any] = {
    "headers": {
        HEADER: {
            "description": "`yes`: no gateway lets anybody in any more whom this shut out. `pending`: one has not said "
            "so within a second; it follows, or lets nobody in.",
            "schema": {"type": "string", "enum": [YES, PENDING]},
        }
    }
}
"""For `responses` of an operation that settles."""


def settled(unit: Session, sessions: Sessions) -> bool:
    """Commit what the operation did, and wait for every gateway that lives; False if one took too long."""
    mark = revocation.mark(unit)
    unit.commit()
    deadline, pause = time.monotonic() + PATIENCE_SECONDS, LOOK_SECONDS
    while True:
        with sessions() as session:
            if revocation.in_force(session, mark):
                return True
        if time.monotonic() + pause > deadline:
            return False
        time.sleep(pause)
        pause = min(pause * 1.5, LOOK_MOST_SECONDS)


async def _settling(request: Request, response: Response, unit: Unit) -> Callable[[], bool]:
    def settle() -> bool:
        done = settled(unit, request.app.state.sessions)
        response.headers[HEADER] = YES if done else PENDING
        return done

    return settle


Settle = Annotated[Callable[[], bool], Depends(_settling)]
"""Called last in an operation that takes something away: commits it, waits, and says in a header how that went."""
