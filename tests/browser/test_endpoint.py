"""From a lease's page to what it serves, which is another origin and must never act as the visitor."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import expect

from tests.support.browser import Tab
from tests.support.stack import Stack, until

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("stack"), pytest.mark.timeout(120)]

SERVE = r"""
mkdir -p /tmp/www/cgi-bin
printf '%s' "$PAGE" > /tmp/www/index.html
printf '#!/bin/sh\nprintf "Content-Type: text/plain\\r\\n\\r\\n"; env' > /tmp/www/cgi-bin/env
chmod 755 /tmp/www/cgi-bin/env
exec httpd -f -p 8000 -h /tmp/www
"""
PAGE = """<!doctype html><title>hello</title><h1>From inside</h1><script>
const api = "API/api/v1/leases";
(async () => {
  const asked = (url, options) => fetch(url, {credentials: "include", ...options}).then((a) => a.type, () => "refused");
  const read = await asked(api);
  const written = await asked("API/leases/served/release", {method: "POST", mode: "no-cors"});
  document.title = `${read} ${written}`;
})();
</script>"""


def test_the_endpoint_opens_signed_in_and_cannot_act_as_the_visitor(
    admin: Tab, small: Callable[..., str], stack: Stack, api: httpx.Client
) -> None:
    admin.allow(stack.gateway, "CORS policy", "/api/v1/leases", "403")
    small("served", "sh", "-c", SERVE, env={"PAGE": PAGE.replace("API", stack.url)}, port=8000)
    page = admin.open("/leases/served")
    bearer = {"Authorization": api.headers["Authorization"]}
    until(
        lambda: httpx.get(f"{stack.gateway}/l/served/", headers=bearer).status_code == 200,
        what="its listening",
    )
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Open endpoint").click()
    served = opened.value
    expect(served.get_by_role("heading", name="From inside")).to_be_visible()
    expect(served).to_have_url(f"{stack.gateway}/l/served/")

    # its script ran, and got neither an answer nor its way
    expect(served).to_have_title("refused opaque")
    assert api.get("/leases/served").json()["state"] == "running"

    # nor does a secret of the visitor's reach it, although a browser sends cookies to every port of a host
    served.goto(f"{stack.gateway}/l/served/cgi-bin/env")
    expect(served.locator("body")).to_contain_text("REQUEST_METHOD=GET")
    text = served.locator("body").inner_text()
    secrets = [one["value"] for one in page.context.cookies() if one["name"] != "leasing_route"]
    assert len(secrets) == 3
    assert not [one for one in (*secrets, "lse_") if one in text]
