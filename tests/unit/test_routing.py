"""Which lease a request is for: by path, by host, and by where an absolute link was followed."""

from __future__ import annotations

import pytest

from api.gateway import headers, routing
from api.gateway.routing import Elsewhere, Place
from api.gateway.wire import requests
from api.gateway.wire.requests import Request

SOCKET = (
    "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)  # fmt: skip


def asked(target: str, *more: str, host: str = "gate:8081") -> Request:
    lines = (f"GET {target} HTTP/1.1", f"Host: {host}", *more, "", "")
    return requests.parse("\r\n".join(lines).encode())


def find(target: str, *more: str, host: str = "gate:8081", domain: str = "") -> Place | Elsewhere | None:
    return routing.find(asked(target, *more, host=host), domain.encode())


def test_by_path() -> None:
    assert find("/l/app/v1/x?y=/l/other/") == Place("app", b"/v1/x?y=/l/other/", b"/l/app")
    assert find("/l/app/") == Place("app", b"/", b"/l/app")
    assert find("/l/app?x=1") == Elsewhere(b"/l/app/?x=1", 308)


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/l/",
        "/l//app/",
        "/l/App/",
        "/l/a.b/",
        "/l/-a/",
        "/l/app%2f/",
        "/L/app/",
        "/l/app//evil/",
        "/%6c/app/",
    ],
)
def test_nowhere(target: str) -> None:
    assert find(target) is None


def test_by_host() -> None:
    domain = "apps.example"
    assert find("/l/x/", host="app.apps.example:8081", domain=domain) == Place("app", b"/l/x/", b"")
    assert find("/x", host="APP.Apps.Example", domain=domain) == Place("app", b"/x", b"")
    for other in (
        "apps.example",
        "a.b.apps.example",
        "app.apps.example.evil",
        "evilapps.example",
    ):
        assert find("/x", host=other, domain=domain) is None
        assert find("/l/app/", host=other, domain=domain) == Place("app", b"/", b"/l/app")
    assert find("/x", host="app.apps.example") is None


def test_an_absolute_link_leads_back_to_the_page_that_it_stands_on() -> None:
    page = "Referer: http://gate:8081/l/app/deep/page?x"
    assert find("/static/x.js?v=1", page) == Elsewhere(b"/l/app/static/x.js?v=1", 307)
    assert find("/static/x.js", page, "Cookie: leasing_route=other") == Elsewhere(b"/l/app/static/x.js", 307)
    assert find("/ws", "Cookie: a=b; leasing_route=app", *SOCKET) == Place("app", b"/ws", b"/l/app")
    assert find("/api", "Cookie: leasing_route=app", "Referer: http://gate:8081/deep") == Elsewhere(
        b"/l/app/api", 307
    )


@pytest.mark.parametrize(
    "more",
    [
        "Referer: http://evil.example/l/app/",
        "Referer: http://gate:9/l/app/",
        "Referer: http://[/l/app/",
        "Referer: /l/app/",
        "Cookie: leasing_route=../x",
        "Cookie: leasing_route=//evil.example",
        "Cookie: leasing_route=",
        "Cookie: xleasing_route=app",
    ],
)
def test_no_link_of_another_s_leads_anywhere(more: str) -> None:
    assert find("/static/x.js", more) is None


def test_only_a_page_that_a_browser_opens_is_remembered() -> None:
    place = Place("app", b"/", b"/l/app")
    html = "Accept: text/html,*/*"
    said = routing.remembers(asked("/l/app/", html), place)
    assert said == b"leasing_route=app; Path=/; HttpOnly; SameSite=Lax"
    assert routing.remembers(asked("/l/app/", html, "Sec-Fetch-Dest: script"), place) is None
    assert routing.remembers(asked("/l/app/"), place) is None
    assert routing.remembers(asked("/l/app/", html, "Cookie: leasing_route=app"), place) is None
    assert routing.remembers(asked("/", html), Place("app", b"/", b"")) is None


def test_redirects_and_cookies_stay_below_the_prefix() -> None:
    def passed(name: str, value: str, prefix: str = "/l/app") -> str | None:
        found = headers.to_client(
            [(name.lower().encode(), name.encode(), value.encode())],
            prefix=prefix.encode(),
            upstream=b"10.0.0.2:8000",
        )
        return found[0][2].decode() if found else None

    assert passed("Location", "/x?y=1#z") == "/l/app/x?y=1#z"
    assert passed("Location", "http://10.0.0.2:8000/x") == "/l/app/x"
    assert passed("Location", "http://10.0.0.2:8000/x", prefix="") == "/x"
    assert passed("Location", "/l/app/x") == "/l/app/x"
    assert passed("Location", "x") == "x"
    assert passed("Location", "https://elsewhere.example/x") == "https://elsewhere.example/x"
    assert passed("Set-Cookie", "a=1; Domain=example.com; Secure") == "a=1; Path=/l/app/; Secure"
    assert passed("Set-Cookie", "a=1; path=/sub") == "a=1; Path=/l/app/sub"
    assert passed("Set-Cookie", "a=1; Path=/; Domain=.apps.example", prefix="") == "a=1; Path=/"
    assert passed("Set-Cookie", "a=1; Path=/l/app/; Path=/") == "a=1; Path=/l/app/"
    assert passed("Set-Cookie", "a=1; Path=/; path\t= /b; Secure") == "a=1; Path=/l/app/b; Secure"
    assert passed("Set-Cookie", "a=1; Domain=x.com; Secure; Domain =y.com") == "a=1; Path=/l/app/; Secure"
    for theirs in (
        "Service-Worker-Allowed",
        "Clear-Site-Data",
        "Strict-Transport-Security",
        "Alt-Svc",
        "Keep-Alive",
    ):
        assert passed(theirs, "/") is None
    for ours in ("leasing_endpoint=x", "LEASING_route=x", " leasing_x=1"):
        assert passed("Set-Cookie", ours) is None
