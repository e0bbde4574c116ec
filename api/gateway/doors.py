"""Who stands at which door, and whether it opens: the one rule, asked once of each view for each caller and lease."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from api.gateway import entering, headers
from api.gateway.authorise import Refusal, Upstream, authorise
from api.gateway.grants import Grants, Target, View, Visitor
from api.gateway.routing import Place
from api.gateway.wire.requests import Request

REMEMBERED = 8192
COOKIES_TRIED = 4
NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Door:
    """What came of it. `secret` is what the caller came with; `own_token`: in the Authorization header."""

    visitor: Visitor | None
    target: Target | None
    verdict: Upstream | Refusal
    secret: str = ""
    own_token: bool = False
    until: float = NEVER
    """In seconds since 1970: then the secret is good no longer."""


class Doors:
    """Remembers verdicts for callers with a token, as long as the view they come from is the last."""

    def __init__(self, grants: Grants) -> None:
        self._grants = grants
        self._view: View | None = None
        self._known: dict[tuple[bytes, str], Door] = {}

    def at(self, request: Request, place: Place) -> Door:
        view = self._grants.view
        if view is not self._view or len(self._known) >= REMEMBERED:
            self._view, self._known = view, {}
        key = (request.found.get(b"authorization", b""), place.name)
        known = self._known.get(key)
        if known is not None and known.until > time.time():
            return known
        door = self._look(request, place)
        if door.own_token and isinstance(door.verdict, Upstream):
            self._known[key] = door
        return door

    def _look(self, request: Request, place: Place) -> Door:
        target = self._grants.target(place.name)
        moment = datetime.now(UTC)
        scheme, _, token = request.found.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"bearer":
            secret = token.strip().decode("latin-1")
            if (found := self._grants.visitor(secret, moment)) is not None:
                until = found.expires_at.timestamp() if found.expires_at is not None else NEVER
                return Door(found, target, authorise(found, target), secret, own_token=True, until=until)
        if b"cookie" in request.found:
            brought = request.values(b"cookie")
            tried = headers.cookies(brought, entering.COOKIE)
            tried += headers.cookies(brought, entering.ROOT + place.name.encode())
            for one in tried[:COOKIES_TRIED]:
                secret = one.decode("latin-1")
                if (found := self._grants.visitor(secret, moment)) is not None:
                    return Door(found, target, authorise(found, target), secret)
        return Door(None, target, authorise(None, target))
