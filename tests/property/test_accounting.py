"""Every instant of every thousandth of a device is in exactly one class, and the classes sum to its capacity."""

from __future__ import annotations

import random
from itertools import pairwise
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from leasing.accounting import CLASS_OF, Condition, Count, DeviceClass, Hold, Span, Was, classify, covered
from leasing.gpus import WHOLE

END = 60
"""The window is 0 to 60 microseconds: small enough to look at each of them."""

moments = st.integers(-10, END + 10)
spans = st.tuples(moments, moments).map(lambda pair: Span(min(pair), max(pair)))
holds = st.builds(
    Hold,
    run=st.integers(1, 5).map(lambda number: UUID(int=number)),
    share=st.sampled_from([1, 250, 333, 500, 1000]),
    during=spans,
    ran=st.lists(spans, max_size=3).map(tuple),
)
conditions = st.builds(Was, st.sampled_from(Condition), spans)
histories = st.tuples(moments, st.lists(holds, max_size=6), st.lists(conditions, max_size=6))
History = tuple[int, list[Hold], list[Was]]


def counted(history: History, window: Span = Span(0, END)) -> Count:  # noqa: B008 - it is frozen
    there, held, known = history
    return classify(window, there=there, holds=held, conditions=known)


def exists(history: History, at: int) -> bool:
    """Whether the device has any capacity at that microsecond."""
    there, held, known = history
    if at < there:
        return False
    if any(hold.during.since <= at < hold.during.until for hold in held):
        return True
    present = [was for was in known if was.during.since <= at < was.during.until]
    last = max(present, key=lambda was: (was.during, was.condition), default=None)
    return last is None or last.condition is not Condition.ABSENT


@given(histories)
def test_the_classes_sum_to_capacity_exactly(history: History) -> None:
    expected = WHOLE * sum(exists(history, at) for at in range(END))
    count = counted(history)
    assert count.capacity == expected
    assert all(time >= 0 for time in count.classes.values())


@given(histories)
def test_what_leases_had_is_what_is_leased_and_never_more_than_there_is(history: History) -> None:
    count = counted(history)
    assert sum(count.leased.values()) == count.classes[DeviceClass.LEASED] <= WHOLE * END


@given(histories, st.lists(st.integers(0, END), max_size=5))
def test_hours_sealed_one_by_one_add_up_to_all_of_it_at_once(history: History, cuts: list[int]) -> None:
    edges = sorted({0, END, *cuts})
    pieces = [counted(history, Span(begin, end)) for begin, end in pairwise(edges)]
    whole = counted(history)
    for one in DeviceClass:
        assert sum(piece.classes[one] for piece in pieces) == whole.classes[one]
    for run, time in whole.leased.items():
        assert sum(piece.leased.get(run, 0) for piece in pieces) == time


@given(histories, st.randoms(use_true_random=False))
def test_the_order_in_which_intervals_come_does_not_matter(history: History, chance: random.Random) -> None:
    there, held, known = history
    shuffled = there, chance.sample(held, len(held)), chance.sample(known, len(known))
    assert counted(shuffled) == counted(history)


@given(histories)
def test_a_run_that_has_a_device_by_itself_has_all_the_time_that_its_container_ran(history: History) -> None:
    there, held, known = history
    for hold in held:
        ran = [
            Span(max(one.since, hold.during.since, there), min(one.until, hold.during.until))
            for one in hold.ran
        ]
        alone = counted((there, [hold], known))
        assert alone.leased.get(hold.run, 0) == hold.share * covered(ran, Span(0, END))


@given(st.lists(spans, max_size=6))
def test_covered_counts_no_moment_twice(found: list[Span]) -> None:
    window = Span(0, END)
    assert covered(found, window) == sum(
        any(one.since <= at < one.until for one in found) for at in range(END)
    )


def test_a_half_leased_device_is_half_leased_and_half_as_it_was() -> None:
    run = UUID(int=1)
    hold = Hold(run, 500, Span(10, 40), (Span(20, 40),))
    count = classify(
        Span(0, 60), there=0, holds=[hold],
        conditions=[Was(Condition.FREE, Span(0, 50)), Was(Condition.CORDONED, Span(50, 60))],
    )  # fmt: skip
    assert count.classes == {
        DeviceClass.LEASED: 20 * 500,
        DeviceClass.HELD: 10 * 500,
        DeviceClass.FREE: 20 * 1000 + 30 * 500,
        DeviceClass.FOREIGN: 0,
        DeviceClass.OUT: 10 * 1000,
        DeviceClass.UNKNOWN: 0,
    }
    assert count.leased == {run: 20 * 500}


def test_what_nobody_looked_at_is_unknown() -> None:
    count = classify(Span(0, 60), there=30, holds=[], conditions=[])
    assert count.classes[DeviceClass.UNKNOWN] == count.capacity == 30 * 1000


def test_a_parent_of_instances_has_no_capacity_of_its_own() -> None:
    assert (
        classify(Span(0, 60), there=0, holds=[], conditions=[Was(Condition.ABSENT, Span(-5, 90))]).capacity
        == 0
    )


def test_parts_that_overlap_after_a_clock_was_moved_back_count_once() -> None:
    first, second = UUID(int=1), UUID(int=2)
    ran = Span(0, 40), Span(30, 60)
    count = classify(
        Span(0, 60), there=0, conditions=[],
        holds=[Hold(second, 1000, ran[1], (ran[1],)), Hold(first, 1000, ran[0], (ran[0],))],
    )  # fmt: skip
    assert count.leased == {first: 40_000, second: 20_000}
    assert count.capacity == 60_000


def test_every_condition_is_in_a_class() -> None:
    assert set(CLASS_OF) == set(Condition)
