"""JupyterLab of the catalogue behind the gateway, below a prefix and on a host of its own: no token, kernels run."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest
from playwright.sync_api import Browser, expect
from playwright.sync_api import Error as PlaywrightError

from api.gateway.entering import COOKIE
from images.catalogue import load
from tests.support.browser import DESK
from tests.support.planes import TOKEN, Open, opened
from tests.support.stack import until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.docker,
    pytest.mark.xdist_group("stack"),
    pytest.mark.timeout(180),
]

IMAGE = load()["jupyter"].reference
DOMAIN = "apps.localhost"


@pytest.fixture(scope="module")
def gate() -> Iterator[Open]:
    """The plane in front of a container that anyone may reach, as if it were a lease's."""
    if (
        subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True, check=False).returncode
        != 0
    ):
        pytest.skip(f"{IMAGE} is not built here: lease up --image jupyter builds it")
    made = subprocess.check_output(
        ["docker", "run", "-d", "--rm", "--cap-drop", "ALL", "--user", "1000:1000", "-p", "127.0.0.1::8888", IMAGE],
        text=True,
    ).strip()  # fmt: skip
    try:
        port = subprocess.check_output(["docker", "port", made, "8888"], text=True).strip().rpartition(":")[2]
        until(lambda: _answers(port), what="JupyterLab", seconds=60)
        with opened(int(port), domain=DOMAIN) as gate:
            yield gate
    finally:
        subprocess.run(["docker", "kill", made], capture_output=True, check=True)


def _answers(port: str) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/api").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("base", ["http://127.0.0.1:{port}/l/app/", f"http://app.{DOMAIN}:{{port}}/"])
def test_a_notebook_computes(gate: Open, chromium: Browser, base: str) -> None:
    url = base.format(port=gate.port)
    with chromium.new_context(viewport=DESK) as context:
        context.set_default_timeout(45_000)
        context.add_cookies([{"name": COOKIE.decode(), "value": TOKEN, "url": url}])
        asked: list[str] = []
        context.on("request", lambda request: asked.append(request.url))
        page = context.new_page()
        sockets: list[str] = []
        page.on("websocket", lambda socket: sockets.append(socket.url))
        page.goto(url, wait_until="commit")
        expect(page).to_have_url(f"{url}lab")
        empty = "path" if "/l/" in base else "host"
        page.goto(f"{url}lab/workspaces/{empty}")  # a layout of its own, in which nothing is open
        page.locator('.jp-LauncherCard[data-category="Notebook"]').first.click()
        ready = page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]')
        expect(ready).to_be_visible(timeout=45_000)
        cell = page.locator(".jp-Notebook .cm-content").first
        cell.click()
        expect(cell).to_be_focused()
        page.keyboard.type("6 * 7")
        expect(cell).to_have_text("6 * 7")
        computed = page.locator(".jp-OutputArea-output").get_by_text("42", exact=True)
        for _ in range(
            3
        ):  # JupyterLab forgets what is run while its kernel still connects, whatever it shows
            cell.click()
            cell.press("Shift+Enter")
            with suppress(PlaywrightError):
                computed.wait_for(timeout=15_000)
                break
        expect(computed).to_be_visible()
        elsewhere = [one for one in asked if not one.startswith((url, "data:", "blob:"))]
        assert not elsewhere, "its pages find their way below the prefix by themselves"
        assert sockets
        assert all(one.startswith(url.replace("http", "ws")) for one in sockets)
        me = page.evaluate("(url) => fetch(url).then((answer) => answer.json())", f"{url}api/me")
        assert me["identity"]["username"] == "ada"
