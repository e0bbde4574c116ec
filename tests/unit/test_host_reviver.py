"""A database that died is started again, and again."""

from __future__ import annotations

import errno
from itertools import pairwise

import pytest

from leasing.errors import HostError
from leasing.host.postgres import Postgres
from leasing.host.reviver import Reviver


class Dying(Postgres):
    """Needs as many tries as it is told."""

    def __init__(self, tries: int, error: Exception) -> None:
        super().__init__("postgresql://nowhere", "18")
        self.tries, self.error, self.runs, self.started = tries, error, False, 0

    def start(self) -> None:
        self.started += 1
        if self.started < self.tries:
            raise self.error
        self.runs = True

    def poll(self) -> int | None:
        return None if self.runs else -9


@pytest.mark.parametrize(
    "error",
    [HostError("The disk is full."), BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")],
    ids=["disk", "fork"],
)
def test_one_that_cannot_start_yet_is_tried_again_ever_more_seldom(error: Exception) -> None:
    clock, tried = 0.0, []
    database = Dying(8, error)
    reviver = Reviver(database, clock=lambda: clock)
    while not database.runs:
        before = database.started
        reviver.tick()
        if database.started > before:
            tried.append(clock)
        clock += 0.125
        assert clock < 60, "it was given up"
    pauses = [later - earlier for earlier, later in pairwise(tried)]
    assert pauses == sorted(pauses)
    assert pauses[-1] <= 10.5
    reviver.tick()
    assert database.started == 8, "one that runs is left alone"
