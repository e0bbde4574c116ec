"""Idle or not, and what a dead container means."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from leasing.reading import Reading
from leasing.states import EndReason, Verdict
from scheduler.policy import fate
from scheduler.policy.fate import Fate, Seen
from scheduler.policy.idleness import judge

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
WINDOW = timedelta(minutes=30)
LONG_AGO = NOW - timedelta(hours=3)
QUIET = Reading(LONG_AGO, NOW, None)
STALE = Reading(LONG_AGO, NOW - timedelta(seconds=31), None)
YOUNG = Reading(NOW - timedelta(minutes=29), NOW, None)
BUSY = Reading(LONG_AGO, NOW, NOW - timedelta(minutes=29))
DONE = Reading(LONG_AGO, NOW, NOW - timedelta(minutes=30))


@pytest.mark.parametrize(
    ("signals", "verdict"),
    [
        ({"cpu": QUIET, "network": QUIET}, Verdict.IDLE),
        ({"cpu": DONE, "network": QUIET}, Verdict.IDLE),
        ({"cpu": BUSY, "network": QUIET}, Verdict.ACTIVE),
        ({"cpu": BUSY}, Verdict.ACTIVE),
        ({"cpu": QUIET}, Verdict.UNKNOWN),
        ({"cpu": QUIET, "network": STALE}, Verdict.UNKNOWN),
        ({"cpu": QUIET, "network": YOUNG}, Verdict.UNKNOWN),
        ({}, Verdict.UNKNOWN),
    ],
)
def test_idle_needs_every_signal_quiet_for_the_whole_window(
    signals: dict[str, Reading], verdict: Verdict
) -> None:
    judged = judge(frozenset({"cpu", "network"}), signals, started_at=LONG_AGO, now=NOW, window=WINDOW)
    assert judged.verdict is verdict
    assert judged.reason


def test_a_lease_younger_than_the_window_is_never_idle() -> None:
    judged = judge(
        frozenset({"cpu"}), {"cpu": QUIET}, started_at=NOW - timedelta(minutes=5), now=NOW, window=WINDOW
    )
    assert judged.verdict is Verdict.ACTIVE


def test_without_any_signal_nothing_can_be_said() -> None:
    assert judge(frozenset(), {}, started_at=LONG_AGO, now=NOW, window=WINDOW).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("seen", "outcome", "reason"),
    [
        (Seen(present=True, running=True, epoch="1"), Fate.KEEP, None),
        (Seen(present=True, running=True, epoch="2"), Fate.KEEP, None),
        (Seen(present=True, running=False, epoch="2", exit_code=0), Fate.RESTART, None),
        (Seen(present=True, running=False, epoch="1", exit_code=0), Fate.STOP, EndReason.COMPLETED),
        (Seen(present=True, running=False, epoch="1", exit_code=1), Fate.STOP, EndReason.FAILED),
        (
            Seen(present=True, running=False, epoch="1", exit_code=0, oom_killed=True),
            Fate.STOP,
            EndReason.FAILED,
        ),
        (Seen(present=False, running=False, epoch="2"), Fate.LOST, EndReason.LOST),
        (Seen(present=False, running=False, epoch="2", awaited_until=NOW), Fate.AWAIT, None),
        (Seen(present=False, running=False, epoch="1", awaited_until=NOW), Fate.LOST, EndReason.LOST),
    ],
)
def test_what_became_of_a_container(seen: Seen, outcome: Fate, reason: EndReason | None) -> None:
    found = fate.of(seen, "1")
    assert (found.fate, found.reason) == (outcome, reason)
