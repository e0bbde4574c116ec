"""A person asks, or a page that is only open: told apart by the beat."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.gateway import asking
from api.gateway.asking import ARRIVALS, BEATS, REQUESTS, Beats


def people(beats: Beats, arrivals: list[tuple[float, str]]) -> list[float]:
    """When a person asked, of GET requests at those moments."""
    return [at for at, path in sorted(arrivals) if beats.person(asking.request("GET", path), at)]


def tab(seed: int, begin: float, end: float) -> list[tuple[float, str]]:
    """An open notebook page, as JupyterLab asks: its timers a bit late, a moment in each address."""
    dice = random.Random(seed)
    found = []
    for path, every in (
        ("/api/kernels", 10),
        ("/api/sessions", 10),
        ("/api/terminals", 10),
        ("/api/status", 30),
    ):
        at = begin + dice.random()
        while at < end:
            found.append((at, f"{path}?{int(1_760_000_000_000 + at * 1000)}"))
            at += every + dice.random() * 0.3
    return found


def test_an_untouched_page_falls_silent_after_its_first_rounds() -> None:
    asked = people(Beats(), tab(1, 0, 3600))
    assert len(asked) <= 4 * BEATS
    assert max(asked) < 30 * (BEATS + 1)


def test_several_pages_of_the_same_do_not_hide_each_other() -> None:
    both = tab(1, 0, 1800) + tab(2, 3.5, 1800)
    assert [at for at in people(Beats(), both) if at > 300] == []


def test_what_a_person_does_in_an_open_page_counts() -> None:
    beats, arrivals = Beats(), tab(1, 0, 3600)
    people(beats, [one for one in arrivals if one[0] < 1800])
    assert beats.person(asking.request("POST", "/api/contents"), 1800)
    assert beats.person(asking.request("GET", "/api/contents/a.ipynb"), 1801)
    assert beats.person(asking.request("GET", "/api/kernels"), 1803.9), (
        "off the beat: somebody pressed reload"
    )


@given(st.lists(st.sampled_from(["POST", "PUT", "PATCH", "DELETE", "MKCOL"]), max_size=40))
def test_whatever_writes_is_a_persons_however_regular(methods: list[str]) -> None:
    beats = Beats()
    assert all(beats.person(asking.request(method, "/run"), 10.0 * at) for at, method in enumerate(methods))


@given(st.floats(0.5, 300), st.integers(BEATS + 1, 60))
def test_a_steady_beat_is_heard_at_the_fifth_time_whatever_its_interval(every: float, times: int) -> None:
    beats = Beats()
    found = [beats.person("GET /x", every * at) for at in range(times)]
    assert found == [at < BEATS for at in range(times)]


@given(st.floats(2.5, 5000), st.booleans(), st.integers(0, 9))
def test_an_endpoint_that_many_read_is_in_use(each_second: float, steady: bool, seed: int) -> None:
    """Among so many, some come at any interval that one looks for."""
    beats, dice, at, found = Beats(), random.Random(seed), 0.0, []
    for _ in range(4 * ARRIVALS):
        at += 1 / each_second if steady else min(dice.expovariate(each_second), 3 / each_second)
        found.append(beats.person("GET /predict", at))
    assert sum(found[ARRIVALS:]) > ARRIVALS


@given(st.lists(st.floats(0, 1e5), max_size=BEATS, unique=True))
def test_the_first_times_are_always_a_persons(moments: list[float]) -> None:
    beats = Beats()
    assert all(beats.person("GET /x", at) for at in sorted(moments))


def test_somebody_who_looks_again_now_and_then_is_a_person() -> None:
    dice, at, seen = random.Random(7), 0.0, []
    beats = Beats()
    for _ in range(200):
        at += dice.uniform(5, 120)
        seen.append(beats.person("GET /board", at))
    assert sum(seen) > 150


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("/a?1760000000000", "/a?1760000010000", True),
        ("/a?_=1760000000.123&x=1", "/a?_=1760000010.5&x=1", True),
        ("/predict?x=1", "/predict?x=2", False),
    ],
)
def test_moments_in_an_address_do_not_make_it_another(one: str, other: str, same: bool) -> None:
    assert (asking.request("GET", one) == asking.request("GET", other)) is same


def test_messages_of_a_socket_are_judged_alike_and_long_ones_are_a_persons() -> None:
    beats = Beats()
    heart = [beats.person(asking.message("/ws", '{"ping": 1760000000000}'), 30.0 * at) for at in range(20)]
    assert heart == [at < BEATS for at in range(20)]
    assert asking.message("/ws", "x" * 257) is None
    typed = "the quick brown fox jumps over the lazy dog"
    keys = [
        beats.person(asking.message("/term", f'["stdin","{one}"]'), 700 + 0.13 * at)
        for at, one in enumerate(typed)
    ]
    assert sum(keys) > len(typed) / 2


def test_memory_is_bounded_however_it_is_asked() -> None:
    beats = Beats()
    for at in range(REQUESTS * 3):
        assert beats.person(f"GET /{at}", float(at))
        beats.person("GET /same", float(at))
    assert len(beats._seen) == REQUESTS
    assert max(len(one) for one in beats._seen.values()) == ARRIVALS


@pytest.mark.parametrize(
    ("method", "cookie", "upgrade", "mode", "opened"),
    [
        ("GET", False, False, b"", True),
        ("GET", False, True, b"", True),
        ("POST", False, False, b"cors", True),
        ("GET", True, False, b"navigate", True),
        ("GET", True, False, b"", True),
        ("GET", True, False, b"cors", False),
        ("HEAD", True, False, b"same-origin", False),
        ("GET", True, True, b"websocket", False),
        ("GET", True, True, b"", False),
        ("POST", True, False, b"same-origin", True),
    ],
)
def test_what_a_page_asks_by_itself_opens_nothing(
    method: str, cookie: bool, upgrade: bool, mode: bytes, opened: bool
) -> None:
    assert asking.opens(method, cookie=cookie, upgrade=upgrade, mode=mode) is opened
