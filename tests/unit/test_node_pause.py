"""How long a node waits before it reports again to an api that did not take its last report."""

from __future__ import annotations

from itertools import accumulate

from monitoring.node import MAX_PAUSE, retry_pause


def test_an_api_that_starts_is_found_at_once_and_one_that_is_away_is_not_stormed() -> None:
    pauses = [retry_pause(failures) for failures in range(1, 200)]
    moments = list(accumulate(pauses))
    assert pauses == sorted(pauses)
    first = [pause for pause, moment in zip(pauses, moments, strict=True) if moment < 3.0]
    assert max(first) <= 1.0
    assert pauses[-1] == MAX_PAUSE
    assert len([moment for moment in moments if moment < 3600]) < 140, "in an hour"
