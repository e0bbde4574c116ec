"""The warning ladder: which warnings are due, when a lease will be taken back, and whether that is now.

A warning names a deadline, and is good for that one only. Nothing is taken back before every promised warning was given
at least its step before; a warning that comes late moves the deadline. Pure: what was told comes in, what is to be told
goes out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta

from leasing.reclaim import Hours, Told

NEAR = timedelta(seconds=60)
"""A warning that named a deadline so close by is as good: nobody is told again for a pass that came seconds late."""


@dataclass(frozen=True)
class Rung:
    """Where a lease stands: `due` are the steps (seconds before) to warn at now, `deadline` is what they name.

    `over`: it is taken back now. `warned`: at least one warning that was given names this deadline.
    """

    deadline: datetime
    due: tuple[int, ...] = ()
    over: bool = False
    warned: bool = False


def climb(
    target: datetime,
    steps: Sequence[int],
    told: Mapping[int, Told],
    now: datetime,
    *,
    hours: Hours | None = None,
    frozen_until: datetime | None = None,
    lead: timedelta = timedelta(0),
) -> Rung:
    """Of what may be put off: a lease that is idle since its window before `target`, or files that go then.

    `told` has the last warning given at each step. What falls into working `hours` waits for their end, and nothing is
    taken back before `frozen_until`. Equality counts as due. Warnings are given `lead` before their step, so that the
    deadline need not move for a pass that comes a little late.
    """
    wanted = sorted({step for step in steps if step > 0}, reverse=True)
    earliest = target if frozen_until is None else max(target, frozen_until)
    good = _good(wanted, told, now)
    deadline = _deadline(earliest, wanted, good, now, hours)
    if good and abs(deadline - max(one.deadline for one in good.values())) > NEAR:
        good = {}
        deadline = _deadline(earliest, wanted, good, now, hours)
    due = tuple(
        step for step in wanted if step not in good and now + timedelta(seconds=step) + lead >= deadline
    )
    # while a step is not told of, the deadline lies at least that far ahead
    return Rung(deadline, due, now >= deadline, bool(good))


def count_down(
    target: datetime,
    steps: Sequence[int],
    told: Mapping[int, Told],
    now: datetime,
    *,
    since: datetime,
    frozen_until: datetime | None = None,
    lead: timedelta = timedelta(0),
) -> Rung:
    """Of what is not put off: a lease's time, which began at `since`, is over at `target`.

    Warnings come as far as there is time for them: none of a step longer than all its time, and of several that are
    late only the shortest. After the clock has jumped it waits for `frozen_until`, and is warned of that.
    """
    deadline = target if frozen_until is None else max(target, frozen_until)
    fitting = sorted({step for step in steps if step > 0 and deadline - timedelta(seconds=step) > since})
    good = {step for step in fitting if step in told and abs(told[step].deadline - deadline) <= NEAR}
    late = [step for step in fitting if now + timedelta(seconds=step) + lead >= deadline]
    # whoever was warned at a shorter step knows all that a longer one would tell
    due = tuple(late[:1]) if late and not any(step <= late[0] for step in good) and now < deadline else ()
    return Rung(deadline, due, now >= deadline, bool(good))


def _good(wanted: Sequence[int], told: Mapping[int, Told], now: datetime) -> dict[int, Told]:
    """Warnings that still hold: of the latest deadline that was named, unless that passed without anything done."""
    found = {step: told[step] for step in wanted if step in told}
    if not found:
        return {}
    last = max(one.deadline for one in found.values())
    if now > last + NEAR:
        return {}
    return {step: one for step, one in found.items() if last - one.deadline <= NEAR}


def _deadline(
    earliest: datetime, wanted: Sequence[int], good: Mapping[int, Told], now: datetime, hours: Hours | None
) -> datetime:
    at = [(good[step].at if step in good else now) + timedelta(seconds=step) for step in wanted]
    return _put_off(max([earliest, *at]), hours)


def _put_off(moment: datetime, hours: Hours | None) -> datetime:
    """The first moment from then on that no working hours cover."""
    if hours is None:
        return moment
    for _ in range(8):  # a week of days that touch each other; beyond that it is always working hours
        if not hours.cover(moment):
            break
        moment = _end_of(hours, moment)
    return moment


def _end_of(hours: Hours, moment: datetime) -> datetime:
    """When the hours that cover that moment end."""
    local = moment.astimezone(hours.zone)
    day = local.date()
    if hours.begin > hours.end and local.time() >= hours.begin:
        day += timedelta(days=1)
    ends = datetime.combine(day, time(hours.end.hour, hours.end.minute, hours.end.second), hours.zone)
    return max(ends, moment + timedelta(seconds=1)) if ends <= moment else ends
