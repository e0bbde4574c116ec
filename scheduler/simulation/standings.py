"""What each project has used so far in simulated time, older use counting for less."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from scheduler.policy.snapshot import Standing

HALF_LIFE_SECONDS = 86_400.0
"""After so long, use counts for half: the default of LEASING_SCHEDULER_FAIR_SHARE_HALF_LIFE_HOURS."""
RATE = math.log(2) / HALF_LIFE_SECONDS


@dataclass
class _Use:
    seconds: float = 0.0
    worth: float = 0.0
    """What runs now, in devices."""
    at: float = 0.0

    def by(self, at: float) -> float:
        faded = math.exp(-RATE * (at - self.at))
        return self.seconds * faded + self.worth * (1.0 - faded) / RATE


class Standings:
    """Kept up to date by every start and every end."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = weights
        self._uses: dict[str, _Use] = {}

    def change(self, project: str, worth: float, at: float) -> None:
        """From then on the project uses so much more, or less."""
        use = self._uses.setdefault(project, _Use(at=at))
        use.seconds, use.at = use.by(at), at
        use.worth += worth

    def at(self, at: float) -> dict[str, Standing]:
        """As the planner is told."""
        return {
            project: Standing(use.by(at), self._weights.get(project, 1.0))
            for project, use in self._uses.items()
        } | {
            project: Standing(0.0, weight)
            for project, weight in self._weights.items()
            if project not in self._uses
        }
