"""How much of what is left of a device will stay unused, if those who come are the ones that usually come.

What is left can only be used by requests that fit into it, and each leaves less. A device waits for the right ones, but
not for ever: it is thought to take the best of the next `PATIENCE` requests that come, best being whoever leaves least
waste in turn. A size that is one request in a thousand will hardly come in time; one that is every tenth surely does.
So the waste of each rest follows from those of smaller rests, and is worked out once for a thousand of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from scheduler.policy.field import WHOLE, Floats, Want

PATIENCE = 30
"""For so many requests a device in use waits for a better one. More of it fills a cluster better that nobody leaves;
less is better where leases end."""


def waste(typical: Sequence[tuple[Want, float]], patience: int = PATIENCE) -> Floats:
    """For each rest of a device, from 0 to 1000 thousandths: how many of them will probably be of no use."""
    weights: defaultdict[int, float] = defaultdict(float)
    for want, weight in typical:
        if want.count and weight > 0:
            weights[want.share] += weight
    total = sum(weights.values())
    return _waste(tuple(sorted((share, weight / total) for share, weight in weights.items())), patience)


@lru_cache(maxsize=8)
def _waste(parts: tuple[tuple[int, float], ...], patience: int) -> Floats:
    """Kept, because what is typical changes seldom, and this takes some ten milliseconds."""
    lost = np.zeros(WHOLE + 1)
    for rest in range(1, WHOLE + 1):
        nobody, asking = 1.0, 0.0
        for after, part in sorted((lost[rest - share], part) for share, part in parts if share <= rest):
            asking += part
            still = max(0.0, 1.0 - asking) ** patience
            lost[rest] += after * (nobody - still)
            nobody = still
        lost[rest] += rest * nobody
    lost.flags.writeable = False
    return lost
