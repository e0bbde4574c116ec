"""Who asks: a person, or a page that is only open.

An open page asks for the same again and again, on a beat: a notebook server's kernels and sessions every ten seconds, a
dashboard's data every thirty, a heartbeat. A person does not. So one rule covers them all, and no list of applications
is needed: what only reads (GET, HEAD, OPTIONS), or is a short message on a WebSocket, and comes for at least the fifth
time at one steady interval, is the page's own. All else is a person's: whatever writes, whatever is asked for the
first times, whatever comes irregularly, and whatever comes more often than any page asks. When in doubt it is activity.

What such a request makes the lease do still shows in the lease's other signals.
"""

from __future__ import annotations

import functools
import re
from collections import OrderedDict, deque

READS = frozenset({"GET", "HEAD", "OPTIONS"})
BEATS = 4
"""So many equal intervals, one after the other, make a beat."""
ARRIVALS = 24
"""So many arrivals of one request are remembered: enough to tell a beat where several pages are open."""
CROWD_SECONDS = 11.0
"""As many within so short a time are no page's, which ask twice a second at most: the application is being used."""
REQUESTS = 512
"""So many different requests are remembered of a lease; the one not seen for longest is forgotten first."""
SLACK_SECONDS, SLACK_RATIO = 0.25, 0.05
"""A page's timer is late by so much: a bit always, and more where the interval is long."""
SHORT = 256
"""Bytes. A longer message on a WebSocket is somebody's."""
VOLATILE = re.compile(r"\d{10,}(?:\.\d+)?")
"""Moments in seconds, milliseconds and so on, which pages add to make each request another."""


@functools.lru_cache(maxsize=1024)
def request(method: str, target: str) -> str | None:
    """What makes a request the same as another one; None for one that is never a page's own."""
    return f"{method} {VOLATILE.sub('#', target)}" if method in READS else None


def message(path: str, data: bytes | str) -> str | None:
    """The same for a message on the WebSocket at `path`."""
    if len(data) > SHORT:
        return None
    text = data if isinstance(data, str) else data.decode("latin-1")
    return f"WS {path} {VOLATILE.sub('#', text)}"


def opens(method: str, *, cookie: bool, upgrade: bool, mode: bytes) -> bool:
    """Whether a call is more than a page's that was left open: such a page asks on and on, also of a lease that sleeps.

    What brings a token is somebody's. Of what brings a page's `cookie` it is the opening of the page and what is sent
    from it; browsers say by `mode` (Sec-Fetch-Mode) what was opened.
    """
    return not cookie or method not in READS or (not upgrade and mode in (b"navigate", b""))


class Beats:
    """What one lease's endpoint was asked for lately. Bounded, however it is asked."""

    def __init__(self) -> None:
        self._seen: OrderedDict[int, deque[float]] = OrderedDict()

    def person(self, key: str | None, at: float) -> bool:
        """Whether a person asks. `key` is what `request` or `message` said, `at` a steady clock's seconds."""
        if key is None:
            return True
        short = hash(key)  # addresses may be long
        seen = self._seen.get(short)
        if seen is None:
            seen = self._seen[short] = deque(maxlen=ARRIVALS)
            if len(self._seen) > REQUESTS:
                self._seen.popitem(last=False)
        self._seen.move_to_end(short)
        beat = on_beat(seen, at)
        seen.append(at)
        return not beat


def on_beat(seen: deque[float], at: float) -> bool:
    """Whether there is an interval at which it came before, again and again, up to now.

    Other arrivals in between do not matter: they are another page's.
    """
    if len(seen) < BEATS or (len(seen) == ARRIVALS and at - seen[0] < CROWD_SECONDS):
        return False
    for last in reversed(seen):
        interval = at - last
        if interval <= 0:
            continue
        slack = SLACK_SECONDS + SLACK_RATIO * interval
        if interval * BEATS > at - seen[0] + slack:
            return False
        if _steady(seen, at, interval, slack):
            return True
    return False


def _steady(seen: deque[float], at: float, interval: float, slack: float) -> bool:
    for times in range(2, BEATS + 1):  # noqa: SIM110 - as below
        if not _near(seen, at - times * interval, slack):
            return False
    return True


def _near(seen: deque[float], moment: float, slack: float) -> bool:
    first, last = moment - slack, moment + slack
    for one in seen:  # noqa: SIM110 - a generator would take most of the time that a request takes here
        if first <= one <= last:
            return True
    return False
