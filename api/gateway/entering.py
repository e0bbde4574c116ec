"""From the pages into one endpoint: a ticket becomes a cookie for that one lease."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from urllib.parse import parse_qs

from api.gateway.grants import Grants, Target
from api.gateway.problems import Problem
from api.gateway.routing import Place
from leasing.database import Sessions, now
from leasing.errors import NotSignedIn
from leasing.service import people, tickets

ENTER = b"/.leasing/enter"
COOKIE = b"leasing_endpoint"
ROOT = b"leasing_root_"
"""With the lease's name, the same for calls at `/`, where a browser does not bring a cookie of `/l/<lease>/`."""


async def enter(
    place: Place, target: Target | None, *, grants: Grants, sessions: Sessions, hours: float, secure: bool
) -> Problem | list[tuple[bytes, bytes]]:
    """The headers of the answer that lets a browser in. Nobody learns by it whether there is such a lease."""
    query = place.path.partition(b"?")[2].decode("latin-1")
    ticket = (parse_qs(query).get("ticket") or [""])[0]
    if target is None or not people.is_secret(ticket):
        return _refused(tickets.no_ticket())

    def redeem() -> str:
        with sessions.begin() as session:
            return tickets.redeem(
                session, ticket, target.lease_id, lasts=timedelta(hours=hours), now=now(session)
            )

    try:
        secret = await asyncio.to_thread(redeem)
    except NotSignedIn as error:
        return _refused(error)
    await asyncio.to_thread(grants.load)  # so that the very next call finds it
    rest = b"; HttpOnly; Max-Age=%d; SameSite=Lax%b" % (int(hours * 3600), b"; Secure" if secure else b"")
    value = secret.encode()
    answer = [
        (b"Location", place.prefix + b"/"),
        (b"Cache-Control", b"no-store"),
        (b"Set-Cookie", COOKIE + b"=" + value + b"; Path=" + place.prefix + b"/" + rest),
    ]
    if place.prefix:
        root = ROOT + place.name.encode()
        answer.append((b"Set-Cookie", root + b"=" + value + b"; Path=/" + rest))
    return answer


def _refused(error: NotSignedIn) -> Problem:
    return Problem(401, error.code, str(error))
