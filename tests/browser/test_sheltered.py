"""The tests' own browser: networks that leases make meanwhile, elsewhere on the machine, break off nothing in it."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator

import pytest
from aiohttp import web
from playwright.sync_api import Browser, Error

from tests.support import browser
from tests.support.applications import serving

pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("stack"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may change networks, or have one of its own"),
]
PIECES = 40
PAGE = "<title>Pieces</title>" + "".join(f"<img alt='piece' src='/{number}.svg'>" for number in range(PIECES))
PIECE = '<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"/>'
LOADED = "() => [...document.images].filter((image) => image.complete && image.naturalWidth).length"


def _ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)


@pytest.fixture
def bridge() -> Iterator[str]:
    name = f"lshelter{os.getpid()}"[:15]
    _ip(f"link add {name} type bridge")
    yield name
    _ip(f"link delete {name}")


def test_networks_come_and_go_while_a_page_loads(bridge: str, chromium: Browser) -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/":
            return web.Response(text=PAGE, content_type="text/html")
        if request.path.endswith(".svg"):
            own = f"169.254.77.{request.path[1:-4]}/32"
            for does in ("add", "delete"):
                await asyncio.to_thread(_ip, f"address {does} {own} dev {bridge}")
        return web.Response(text=PIECE, content_type="image/svg+xml")

    with serving(answer) as port, browser.tab(chromium, f"http://127.0.0.1:{port}") as visitor:
        page = visitor.open("/")
        assert page.evaluate(LOADED) == PIECES
        assert page.evaluate("navigator.onLine"), "nor does it take itself for offline"


def test_nothing_but_this_machine_is_reached(chromium: Browser) -> None:
    """Whatever a page asks for: a test's own browser sends nothing elsewhere."""
    with chromium.new_context() as context:
        page = context.new_page()
        with pytest.raises(Error, match="ERR_SOCKS_CONNECTION_FAILED"):
            page.goto("http://198.51.100.7/")
