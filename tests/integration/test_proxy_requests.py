"""Requests and answers as a real HAProxy passes them on, byte by byte, and those that it does not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support import fronts
from tests.support.fronts import Fronted, curl, headers, served, target, view, visitor


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Fronted]:
    with fronts.opened(tmp_path) as made:
        yield made


def granted(front: Fronted) -> None:
    front.front.push(view([visitor("s")], [target(front.application.port)]))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronted]:
    """One for all requests that change nothing."""
    with fronts.opened(tmp_path_factory.mktemp("front")) as made:
        yield made


def test_what_reaches_the_application_is_its_caller_s_and_ours_and_no_credential(front: Fronted) -> None:
    granted(front)
    answer = front.call(
        path="a%20b/c?x=%20y&x=2", **{
            "X-Forwarded-For": "6.6.6.6", "X_Forwarded_For": "6.6.6.6", "X-Leasing-User": "root",
            "X_Leasing_User": "root",
            "Forwarded": "for=6.6.6.6", "X-Real-IP": "6.6.6.6", "Proxy-Authorization": "Basic x", "TE": "trailers",
            "Cookie": "mine=1", "X-Own": "kept", "Leasing-Lease": "other",
        },
    )  # fmt: skip
    assert answer.text == "hello"
    (request,) = front.application.seen
    assert request.startswith(b"POST /a%20b/c?x=%20y&x=2 HTTP/1.1\r\n")
    found = headers(request)
    assert {name: found[name] for name in found if name.startswith("x-") or name == "cookie"} == {
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-proto": "http",
        "x-forwarded-host": f"127.0.0.1:{front.settings.gateway_port}",
        "x-forwarded-prefix": "/l/app",
        "x-leasing-user": "ada",
        "x-own": "kept",
        "cookie": "mine=1",
    }
    gone = {
        "authorization",
        "proxy-authorization",
        "te",
        "forwarded",
        "x_leasing_user",
        "leasing-lease",
        "connection",
    }
    assert not gone & set(found)


@pytest.mark.parametrize(
    "head",
    [
        "POST /l/app/ HTTP/1.1\r\nCookie: leasing_endpoint=x\r\n",
        (
            "GET /l/app/ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        ),
        "POST /l/app/ HTTP/1.1\r\nConnection: X-Leasing-User\r\n",
        "POST /l/app/ HTTP/1.1\r\nAuthorization: Bearer other\r\n",
        "POST /l/app/../other/ HTTP/1.1\r\n",
        "POST /l/app/%2e%2e/other HTTP/1.1\r\n",
        "POST /l/app//host/ HTTP/1.1\r\n",
        "POST /l/app/a%2fb HTTP/1.1\r\n",
        "POST /l/app/%00 HTTP/1.1\r\n",
        "POST /l/app HTTP/1.1\r\n",
        "POST /L/app/ HTTP/1.1\r\n",
        "POST /l/other/ HTTP/1.1\r\n",
        "POST /api/v1/leases HTTP/1.1\r\n",
        "POST http://x/l/app/ HTTP/1.1\r\n",
        "POST /l/app/ HTTP/1.1\r\nX: a\0b\r\n",
        "BREW /l/app/ HTTP/1.1\r\n",
        "GET /l/app/ HTTP/1.1\r\n",
    ],
)
def test_what_it_cannot_judge_it_leaves_to_the_built_in_plane(shared: Fronted, head: str) -> None:
    granted(shared)
    before = len(shared.application.seen)
    answer = shared.raw(f"{head}Host: x\r\nAuthorization: Bearer s\r\nContent-Length: 0\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 503 "), "nobody listens where the built-in plane would"
    assert len(shared.application.seen) == before
    assert shared.call().text == "hello", "what is like it otherwise is carried"


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"),
        ("Content-Length: 5, 6\r\n", "hello!"),
        ("Content-Length: +5\r\n", "hello"),
        ("Transfer-Encoding: xchunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "zz\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "-5\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding : chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("Host: y\r\n", ""),
        ("X : a\r\n", ""),
        ("X: a\rb\r\n", ""),
    ],
)
def test_what_is_ambiguous_is_refused(shared: Fronted, head: str, body: str) -> None:
    granted(shared)
    before = len(shared.application.seen)
    request = f"POST /l/app/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer s\r\n{head}\r\n{body}"
    answer = shared.raw(request.encode())
    assert answer.split(b" ")[1:2] == [b"400"], answer[:80]
    assert len(shared.application.seen) == before


def test_a_length_beside_chunks_smuggles_nothing(front: Fronted) -> None:
    granted(front)
    front.raw(
        b"POST /l/app/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer s\r\nContent-Length: 4\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        b"POST /l/app/evil HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer s\r\n\r\n"
    )
    assert "evil" not in "".join(served(front))
    assert all("content-length" not in headers(one) for one in front.application.seen)


def spread(attributes: int, between: str = "; Domain=x.com") -> str:
    """A cookie with so many attributes."""
    return between.join(["a=1", *(f"; A{number}=b" for number in range(attributes))])


def test_redirects_and_cookies_stay_below_the_prefix(front: Fronted) -> None:
    granted(front)
    said = [
        ("Location: /elsewhere?x=1", "location", "/l/app/elsewhere?x=1"),
        ("Location: /l/app/there", "location", "/l/app/there"),
        ("Location: /l/other/there", "location", "/l/app/l/other/there"),
        ("Location: //other.example/", "location", "//other.example/"),
        ("Location: https://other.example/a", "location", "https://other.example/a"),
        (f"Location: http://127.0.0.1:{front.application.port}/a", "location", "/l/app/a"),
        (f"Location: http://127.0.0.1:{front.application.port}9/a", "location", None),
        ("Location: next", "location", "next"),
        ("Set-Cookie: app=1; Path=/; Domain=example.com", "set-cookie", "app=1; Path=/l/app/"),
        ("Set-Cookie: app=1; Domain=example.com; HttpOnly", "set-cookie", "app=1; HttpOnly; Path=/l/app/"),
        ("Set-Cookie: app=1; path=/a/b; Secure", "set-cookie", "app=1; Path=/l/app/a/b; Secure"),
        ("Set-Cookie: app=1; Path=/l/app/a", "set-cookie", "app=1; Path=/l/app/a"),
        ("Set-Cookie: app=1; Path=/l/other/a", "set-cookie", "app=1; Path=/l/app/l/other/a"),
        ("Set-Cookie: a=1; Path=/l/app/; Path=/", "set-cookie", "a=1; Path=/l/app/; Path=/l/app/"),
        (
            "Set-Cookie: a=1; Path=/; Path=/l/app/b; Secure",
            "set-cookie",
            "a=1; Path=/; Path=/l/app/b; Secure",
        ),
        ("Set-Cookie: a=1; Path=/l/app/; Path=b", "set-cookie", "a=1; Path=/l/app/; Path=b; Path=/l/app/"),
        ("Set-Cookie: a=1; Path =/l/app/; path\t= /b", "set-cookie", "a=1; Path =/l/app/; Path=/l/app/b"),
        ("Set-Cookie: a=1; Domain=x.com; Secure; Domain =y.com", "set-cookie", "a=1; Secure; Path=/l/app/"),
        ("Set-Cookie: a=1" + "; Domain=x.com" * 40, "set-cookie", "a=1; Path=/l/app/"),
        ("Set-Cookie: a=1;domain=x;;DOMAIN = y; domainer=z", "set-cookie", "a=1;; domainer=z; Path=/l/app/"),
        (f"Set-Cookie: {spread(8)}; Domain=x.com", "set-cookie", f"{spread(8, '')}; Path=/l/app/"),
        (f"Set-Cookie: {spread(9)}; Domain=x.com", "set-cookie", "refused=; Max-Age=0; Path=/l/app/"),
        ("Set-Cookie: leasing_endpoint=stolen; Path=/", "set-cookie", "refused=; Max-Age=0; Path=/l/app/"),
    ]
    for line, name, expected in said:
        sent = f"HTTP/1.1 302 Found\r\n{line}\r\nContent-Length: 0\r\n\r\n".encode()
        front.application.answer = lambda _, sent=sent: [sent]  # type: ignore[misc]  # the loop's own
        assert front.call().headers[name] == (expected or line.partition(": ")[2]), line


@pytest.mark.parametrize("length", [0, 2 * 2**20])
def test_what_would_hold_for_all_of_an_origin_reaches_nobody(front: Fronted, length: int) -> None:
    granted(front)
    said = (
        "Clear-Site-Data: *",
        "Strict-Transport-Security: max-age=9",
        "Alt-Svc: h3=x",
        "Service-Worker-Allowed: /",
        "Public-Key-Pins: x",
        "X-Own: kept",
        f"Content-Length: {length}",
    )
    front.application.answer = lambda _: [
        "\r\n".join(("HTTP/1.1 200 OK", *said, "", "")).encode() + b"x" * length
    ]
    assert set(front.call().headers) == {"x-own", "content-length"}


def test_a_lease_s_own_host_is_its_root(tmp_path: Path) -> None:
    with fronts.opened(tmp_path, core={"gateway_domain": "Apps.test"}) as front:
        granted(front)
        url, token = f"{front.url}/l/other/x", "Authorization: Bearer s"
        assert curl("-X", "POST", "-H", "Host: app.apps.test:8081", "-H", token, url) == "hello"
        assert served(front) == ["POST /l/other/x HTTP/1.1"]
        for host in ("app.apps.test.evil.example", "appsXapps.test", "a.app.apps.test", "other.apps.test"):
            assert "unavailable" in curl("-X", "POST", "-H", f"Host: {host}", "-H", token, url), host


def test_a_body_of_any_size_passes_as_it_comes(front: Fronted) -> None:
    granted(front)
    body = os.urandom(3_000_000)
    answer = httpx.post(
        f"{front.url}/l/app/", content=body, headers={"Authorization": "Bearer s"}, timeout=20
    )
    assert answer.text == "hello"
    assert front.application.seen[0].endswith(body)
    pieces = (body[at : at + 100_000] for at in range(0, len(body), 100_000))
    httpx.post(f"{front.url}/l/app/", content=pieces, headers={"Authorization": "Bearer s"}, timeout=20)
    assert front.application.seen[1].endswith(body)
