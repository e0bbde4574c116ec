"""Files up and down in the browser, in a real container."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import Tab
from tests.support.stack import Stack, until

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("stack"), pytest.mark.timeout(120)]

DROP = """([name, text]) => {
  const data = new DataTransfer();
  data.items.add(new File([text], name));
  for (const kind of ["dragenter", "dragover", "drop"])
    document.getElementById("drop").dispatchEvent(new DragEvent(kind, {dataTransfer: data, bubbles: true}));
}"""


def test_files_go_up_and_come_down(
    admin: Tab, small: Callable[..., str], stack: Stack, tmp_path: Path
) -> None:
    small("shelf", "sleep", "600")
    big = bytes(range(256)) * 8000
    long = "ü" * 60 + ".txt"
    (tmp_path / "set" / "deep").mkdir(parents=True)
    (tmp_path / "set" / "deep" / "big.bin").write_bytes(big)
    (tmp_path / "set" / long).write_text("long")
    (tmp_path / "note.txt").write_text("noted")

    page = admin.open("/leases/shelf")
    page.get_by_role("link", name="Files").click()  # which is there once it runs
    expect(page.get_by_text("This folder is empty.")).to_be_visible()
    page.locator("#choose-files").set_input_files(tmp_path / "note.txt")
    expect(page.get_by_role("link", name="note.txt", exact=True)).to_be_visible()
    page.locator("#choose-folder").set_input_files(tmp_path / "set")
    page.get_by_role("link", name="set", exact=True).click()
    expect(page.get_by_role("link", name=long, exact=True)).to_be_visible()
    page.evaluate(DROP, ["dropped.txt", "dropped"])
    expect(page.get_by_role("link", name="dropped.txt", exact=True)).to_be_visible()
    inside = stack.lease(
        "exec", "shelf", "--", "sh", "-c", "cd set; stat -c '%u %n %s' * */*; md5sum deep/big.bin"
    )
    assert sorted(inside.stdout.splitlines()[:4]) == sorted(
        ["1000 deep 4096", "1000 deep/big.bin 2048000", "1000 dropped.txt 7", f"1000 {long} 4"]
    )

    # each of its outputs is where a script looks for it, and its exit code is ours
    split = stack.lease("exec", "shelf", "--", "sh", "-c", "echo out; echo err >&2; exit 3", check=False)
    assert (split.returncode, split.stdout, split.stderr) == (3, "out\n", "err\n")

    page.get_by_role("link", name="deep", exact=True).click()
    name, content = downloaded(page, "big.bin")
    assert (name, content) == ("big.bin", big)
    page.get_by_role("link", name="workspace", exact=True).click()
    assert downloaded(page, "Download set as a tar")[0] == "set.tar"


def downloaded(page: Page, link: str) -> tuple[str, bytes]:
    """The name and the content of what a link downloads.

    Chromium breaks off what it is loading when a network comes or goes on the machine: other tests' leases make them.
    """
    for last in (False, False, True):
        with page.expect_download() as down:
            page.get_by_role("link", name=link, exact=True).click()
        if last or down.value.failure() is None:
            return down.value.suggested_filename, Path(down.value.path()).read_bytes()
    raise AssertionError("the last one has returned")


def test_what_cannot_be_sent_or_seen_is_said(
    admin: Tab, small: Callable[..., str], api: httpx.Client
) -> None:
    admin.allow("404", "409")
    small("closed", "sleep", "600")
    expect(admin.open("/leases/closed").get_by_role("link", name="Files")).to_be_visible()
    page = admin.open("/leases/closed/files?path=/nosuch")
    expect(page.get_by_role("heading")).to_contain_text("There is no /nosuch in the container.")
    page = admin.open("/leases/closed/files?path=/proc/1")
    with page.expect_response("**/leases/closed/files?*"):  # some of it may be there
        page.evaluate(DROP, ["a.txt", "x"])
    expect(page.get_by_role("alert")).to_be_visible()
    api.delete("/leases/closed")
    until(lambda: api.get("/leases/closed").json()["state"] == "ended", what="its end")
    page = admin.open("/leases/closed/files")
    expect(page.get_by_role("heading")).to_contain_text("has no container now")
