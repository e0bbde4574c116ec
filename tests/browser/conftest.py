"""One platform and one browser for all of the pages' tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser

from tests.support import browser
from tests.support.browser import Tab
from tests.support.images import ensure_busybox
from tests.support.nvml import FakeNvml
from tests.support.stack import Stack, running, until

Visit = Callable[..., Tab]


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """With eight devices to see; the engine has no way to hand them out."""
    ensure_busybox()
    nvml = FakeNvml(tmp_path_factory.mktemp("nvml"))
    settings = {"LEASING_LIMITS_DEVICES_PER_USER": "64", "LEASING_SCHEDULER_RECONCILE_SECONDS": "1"}
    with running(nvml.environment() | settings) as made:
        until(lambda: len(made.json("admin", "devices", "ls")["items"]) == 8, what="the devices")
        yield made


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    with browser.chromium() as made:
        yield made


@pytest.fixture(scope="package")
def api(stack: Stack) -> Iterator[httpx.Client]:
    """The admin's api."""
    token = stack.lease("token").stdout.strip()
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=f"{stack.url}/api/v1", headers=headers, timeout=30) as client:
        yield client


@pytest.fixture(scope="package")
def signed_in(stack: Stack, api: httpx.Client) -> Callable[[str], Any]:
    """What a browser keeps of someone who signed in; for the options of a visit."""
    kept: dict[str, Any] = {}

    def of(name: str) -> Any:
        if name not in kept:
            if name != "admin":
                api.post("/users", json={"name": name}).raise_for_status()
            link = httpx.URL(api.post(f"/users/{name}/signin-link").raise_for_status().json()["url"])
            answer = httpx.post(
                link.copy_with(query=None), data=dict(link.params), headers={"Origin": stack.url}
            )
            kept[name] = browser.holding(answer.cookies["leasing_session"], stack.url)
        return kept[name]

    return of


@pytest.fixture
def visit(chromium: Browser, stack: Stack, signed_in: Callable[[str], Any]) -> Iterator[Visit]:
    """Somebody's tab; nobody's without a name."""
    with ExitStack() as open_tabs:

        def come(name: str | None = None, **options: Any) -> Tab:
            state = signed_in(name) if name else None
            return open_tabs.enter_context(browser.tab(chromium, stack.url, storage_state=state, **options))

        yield come


@pytest.fixture
def admin(visit: Visit) -> Tab:
    return visit("admin")


@pytest.fixture
def small(api: httpx.Client) -> Iterator[Callable[..., str]]:
    """Leases of a test's own by the api, given back at its end whoever made them."""

    def make(name: str, *command: str, **wishes: Any) -> str:
        ask = {
            "name": name,
            "image": ensure_busybox(),
            "cpus": "0.1",
            "memory": "64M",
            "command": list(command),
        }
        api.post("/leases", json=ask | wishes).raise_for_status()
        return name

    yield make
    for lease in api.get("/leases", params={"everyone": True}).json()["items"]:
        api.delete(f"/leases/{lease['id']}")
