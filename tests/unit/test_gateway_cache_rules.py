"""What an endpoint's cache may answer and may keep, as tables."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from api.gateway import cache_rules as rules
from api.gateway.cache_rules import Keep, Use
from api.gateway.grants import Target, Visitor
from api.gateway.hooks import Call, Headers
from leasing.schema.endpoint import EndpointOptions

NOW = 1_800_000_000.0
ADA, BOB = UUID(int=1), UUID(int=2)


def visitor(user: UUID = ADA) -> Visitor:
    return Visitor(uuid4(), user, "ada", admin=False, lease_id=None, expires_at=None)


TARGET = Target(
    UUID(int=9), "app", ADA, UUID(int=8), shared=True, state="running", message="", port=8000, address="127.0.0.1",
    generation=1, endpoint=EndpointOptions(cache_seconds=60),
)  # fmt: skip


def headers(text: str) -> Headers:
    return [
        (name.strip().encode(), value.strip().encode())
        for line in text.split("|")
        if line
        for name, _, value in [line.partition(":")]
    ]


def call(method: str = "POST", path: str = "/infer", said: str = "", user: UUID = ADA) -> Call:
    return Call(visitor(user), TARGET, method, path, headers(f"Host: app.example|{said}"))


@pytest.mark.parametrize(
    ("method", "said", "use"),
    [
        ("GET", "", Use.LOOK),
        ("HEAD", "", Use.LOOK),
        ("POST", "Content-Type: application/json", Use.LOOK),
        ("POST", "Content-Type: application/x-www-form-urlencoded; charset=utf-8", Use.CHANGE),
        ("POST", "content-type: Multipart/Form-Data; boundary=x", Use.CHANGE),
        ("PUT", "", Use.CHANGE),
        ("PATCH", "", Use.CHANGE),
        ("DELETE", "", Use.CHANGE),
        ("OPTIONS", "", None),
        ("PROPFIND", "", None),
        ("GET", "Cache-Control: no-store", None),
        ("GET", "cache-control: max-age=5, No-Store", None),
        ("GET", "Cache-Control: no-cache", Use.RENEW),
        ("GET", "Cache-Control: max-age=0", Use.RENEW),
        ("GET", "Pragma: no-cache", Use.RENEW),
        ("GET", "Cookie: session=1", None),
        ("GET", "authorization: Bearer theirs", None),
        ("GET", "Range: bytes=0-1", None),
        ("GET", "If-None-Match: x", None),
        ("GET", "Upgrade: websocket", None),
    ],
)
def test_what_the_cache_is_to_a_call(method: str, said: str, use: Use | None) -> None:
    assert rules.use(call(method, said=said)) is use


FOR_ALL, FOR_ONE = Keep(60, own=False), Keep(60, own=True)


@pytest.mark.parametrize(
    ("status", "said", "kept"),
    [
        (200, "", FOR_ALL),
        (200, "Content-Type: application/json", FOR_ALL),
        (200, "Cache-Control: public, max-age=10", Keep(10, own=False)),
        (200, "Cache-Control: max-age=1000", FOR_ALL),
        (200, 'Cache-Control: max-age="20"', Keep(20, own=False)),
        (200, "Cache-Control: max-age=10, s-maxage=30", Keep(30, own=False)),
        (200, "Cache-Control: max-age=30|Age: 20", Keep(10, own=False)),
        (200, "Cache-Control: max-age=30|Age: 31", None),
        (200, "Cache-Control: max-age=0", None),
        (200, "Cache-Control: max-age=soon", None),
        (200, "Cache-Control: no-store", None),
        (200, "Cache-Control: public|Cache-Control: no-cache", None),
        (200, "Cache-Control: private", FOR_ONE),
        (200, "Vary: X-Leasing-User", FOR_ONE),
        (200, "Vary: Accept, x-model", FOR_ALL),
        (200, "Vary: *", None),
        (200, "Vary: Accept, User-Agent", None),
        (200, "Vary: X-Forwarded-For", None),
        (200, "Vary: Sec-CH-UA", None),
        (200, "Set-Cookie: a=1", None),
        (200, "Content-Type: text/event-stream", None),
        (200, "Content-Range: bytes 0-1/2", None),
        (200, "Expires: Fri, 15 Jan 2027 08:00:30 GMT", Keep(30, own=False)),
        (200, "Expires: Thu, 01 Jan 1970 00:00:00 GMT", None),
        (200, "Expires: 0", None),
        (201, "", None),
        (206, "", None),
        (302, "Location: /x", None),
        (404, "", None),
        (500, "", None),
    ],
)
def test_which_answers_are_kept_and_for_whom(status: int, said: str, kept: Keep | None) -> None:
    assert rules.keep(status, headers(said), most=60, now=NOW) == kept


BASE = call(said="Accept: a|Content-Type: application/json")


@pytest.mark.parametrize(
    "other",
    [
        call(said="Accept: b|Content-Type: application/json"),
        call(said="Accept: a|Content-Type: application/json|X-Model: 2"),
        call(path="/infer?x=1", said="Accept: a|Content-Type: application/json"),
        call("PURGE", said="Accept: a|Content-Type: application/json"),
        replace(BASE, target=replace(TARGET, generation=2)),
        replace(BASE, target=replace(TARGET, lease_id=UUID(int=10))),
        replace(BASE, target=replace(TARGET, endpoint=EndpointOptions(cache_seconds=59))),
        replace(BASE, headers=headers("Host: other|Accept: a|Content-Type: application/json")),
        replace(
            BASE, headers=headers("Host: app.example|Accept: acontent-type|Content-Type: application/json")
        ),
    ],
)
def test_what_differs_is_another_call(other: Call) -> None:
    assert rules.keys(BASE, b"x").shared != rules.keys(other, b"x").shared


def test_equal_calls_of_anybody_are_one_but_an_own_answer_is_its_user_s() -> None:
    ada = rules.keys(BASE, b"x")
    noisy = call(
        said="content-type: application/json|User-Agent: curl|X-Request-Id: 7|accept: a|Sec-Fetch-Mode: cors"
    )
    assert rules.keys(noisy, b"x") == ada
    bob = rules.keys(replace(BASE, visitor=visitor(BOB)), b"x")
    assert (bob.shared == ada.shared, bob.own == ada.own, ada.own == ada.shared) == (True, False, False)
    for body in (b"y", b""):
        assert rules.keys(BASE, body).shared != ada.shared
    assert len({one for times in range(3) for one in (ada.after(times).shared, ada.after(times).own)}) == 6
    assert rules.keys(call("HEAD"), b"") == rules.keys(call("GET"), b"")


def test_what_belongs_to_the_connection_is_not_told_again() -> None:
    told = rules.kept_headers(
        headers(
            "Content-Type: a|Connection: close, X-Hop|x-hop: 1|Content-Length: 5|Age: 9|X-Leasing-Cache: hit|ETag: e"
        )
    )
    assert [name for name, _ in told] == [b"Content-Type", b"ETag"]
