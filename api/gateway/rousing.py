"""Which calls are somebody's, and not only a page's: those wake a lease that sleeps. And whose page it is."""

from __future__ import annotations

from api.gateway import asking
from api.gateway.authorise import Refusal
from api.gateway.doors import Door
from api.gateway.hooks import Waker
from api.gateway.routing import Place
from api.gateway.traffic import Counters
from api.gateway.wire.requests import Request


def rouses(waker: Waker, counters: Counters, request: Request, place: Place, door: Door) -> bool:
    """Whether the lease sleeps, or has only just been woken, and this call is reason enough to bring it back."""
    visitor, target = door.visitor, door.target
    if visitor is None or target is None or not waker.wakes(visitor, target):
        return False
    if isinstance(door.verdict, Refusal) and door.verdict is not Refusal.NOT_RUNNING:
        return False
    cookie = not door.own_token
    if cookie and from_another_page(request):
        return False
    method, path = request.method.decode(), place.path.decode("latin-1")
    mode = request.found.get(b"sec-fetch-mode", b"")
    opened = asking.opens(method, cookie=cookie, upgrade=request.upgrade, mode=mode)
    return opened and counters.stirs(target.lease_id, asking.request(method, path))


def from_another_page(request: Request) -> bool:
    """Whether a browser says that another origin's script or form asks for something that acts.

    A cookie is brought to whoever asks on its site, and every lease of a domain is the same site.
    """
    origin = request.found.get(b"origin")
    if origin is None or (request.method.decode() in asking.READS and not request.upgrade):
        return False
    return origin.partition(b"://")[2].lower() != request.found.get(b"host", b"").lower()
