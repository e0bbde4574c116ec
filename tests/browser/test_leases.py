"""A lease's whole life on the pages: asked for in the form, watched without a reload, extended, given back."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit
from tests.support.browser import Tab
from tests.support.images import BUSYBOX
from tests.support.stack import until

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("stack"), pytest.mark.timeout(120)]

Small = Callable[..., str]
HOSTILE = "<script>document.title='taken'</script>\"><img src=x onerror=\"document.title='taken'\">"


def test_the_first_page_teaches_how_to_begin(visit: Visit) -> None:
    page = visit("novice").open("/")
    expect(page.get_by_text("You hold nothing now.")).to_be_visible()
    expect(page.get_by_text("lease up demo --port 8000")).to_be_visible()
    page.get_by_role("link", name="New lease").first.click()
    expect(page.get_by_role("heading", name="New lease")).to_be_visible()
    expect(page.get_by_text("8 of 8 NVIDIA A100-SXM4-40GB")).to_be_visible()


def test_a_lease_from_the_form_to_its_end(admin: Tab, small: Small) -> None:
    admin.allow("422", "409")
    page = admin.open("/new")
    _fill(
        page, name="web-job", image=BUSYBOX, cpus="0.1", memory="lots", port="8000", env="GREETING=hi there"
    )
    page.get_by_label("Command").fill("echo $GREETING from inside; while sleep 0.3; do echo tick; done")
    page.get_by_label("Time").fill("forever")
    page.get_by_role("button", name="Ask for it").click()

    # every bad field is told beside it, and what was typed stays
    expect(page.get_by_role("alert")).to_be_visible()
    memory, time = page.get_by_label("Memory"), page.get_by_label("Time")
    expect(memory).to_have_accessible_description("'lots' is not a size. Write it like 512M, 16G or 1.5G.")
    expect(time).to_have_accessible_description(
        "'forever' is not a duration. Write it like 30m, 4h, 1h30m or 2d."
    )
    expect(page.get_by_label("Memory")).to_be_focused()
    expect(page.locator("[aria-invalid=true]")).to_have_count(2)
    expect(page.get_by_label("Name")).to_have_value("web-job")
    expect(page.get_by_label("Memory")).to_have_value("lots")
    expect(page.get_by_label("Variables")).to_have_value("GREETING=hi there")

    page.get_by_label("Memory").fill("64M")
    page.get_by_label("Time").fill("1h")
    page.get_by_role("button", name="Ask for it").click()
    expect(page.get_by_role("heading", name="web-job")).to_be_visible()
    page.evaluate("window.sameDocument = true")

    # it starts, prints and is told of without a reload
    expect(page.get_by_role("status").filter(has_text="running")).to_be_visible()
    expect(page).to_have_title("web-job is running · Leasing")
    expect(page.get_by_role("log")).to_contain_text("hi there from inside")
    expect(page.get_by_role("log")).to_contain_text("tick\ntick\ntick")
    for kind in ("queued", "placed", "starting", "running"):
        expect(page.get_by_role("region", name="Events")).to_contain_text(kind)
    expect(page.get_by_role("link", name="Open endpoint")).to_be_visible()
    expect(page.get_by_text("in 59m")).to_be_visible()
    assert page.evaluate("window.sameDocument")

    page.get_by_label("Extend by").fill("2h")
    page.get_by_role("button", name="Extend").click()
    expect(page.get_by_text("in 2h59m")).to_be_visible()
    page.get_by_label("Extend by").fill("999d")
    page.get_by_role("button", name="Extend").click()
    expect(page.get_by_role("alert")).to_contain_text("out of range")
    page.get_by_label("Extend by").fill("30d")
    page.get_by_role("button", name="Extend").click()
    expect(page.get_by_role("alert")).to_contain_text("longer than a lease may last: the limit is 7d")
    expect(page.get_by_label("Extend by")).to_have_value("30d")

    page.evaluate("window.sameDocument = true")
    page.get_by_role("button", name="Release…").click()
    expect(page.get_by_role("dialog")).to_contain_text("its files go")
    page.get_by_role("button", name="Keep it").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("status").filter(has_text="running")).to_be_visible()
    page.get_by_role("button", name="Release…").click()
    page.get_by_role("button", name="Yes, release it").click()
    expect(page.get_by_role("status").filter(has_text="ended")).to_be_visible()
    expect(page.get_by_text("released", exact=True).first).to_be_visible()
    expect(page.get_by_role("button", name="Release…")).to_have_count(0)
    expect(page.get_by_role("log")).to_contain_text("tick")
    expect(page).to_have_title("web-job has ended · Leasing")


def test_a_lease_rests_and_goes_on_without_a_reload(admin: Tab, small: Small) -> None:
    small("rests", "sh", "-c", "echo begun; exec sleep 600")
    page = admin.open("/leases/rests")
    expect(page.get_by_role("status").filter(has_text="running")).to_be_visible()
    expect(page.get_by_role("button", name="Suspend")).to_have_accessible_description(
        "keeps its files, frees its devices"
    )
    page.get_by_role("button", name="Suspend").click()
    page.evaluate("window.sameDocument = true")
    expect(page.get_by_role("status").filter(has_text="suspended")).to_be_visible(timeout=20_000)
    expect(page.get_by_text("admin suspended it").first).to_be_visible()
    expect(page.get_by_role("button", name="Suspend")).to_have_count(0)
    assert page.evaluate("window.sameDocument")
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("status").filter(has_text="running")).to_be_visible()
    expect(page.get_by_role("log")).to_contain_text("begun")
    expect(page.get_by_role("button", name="Suspend")).to_be_visible()


def test_waiting_becomes_running_by_itself(admin: Tab, small: Small, api: httpx.Client) -> None:
    whole = str(api.get("/nodes").json()["items"][0]["cpus"])
    small("holder", "sleep", "600", cpus=whole)
    until(lambda: api.get("/leases/holder").json()["state"] == "running", what="the holder's start")
    small("next", "sh", "-c", "echo my turn; exec sleep 600", cpus=whole)
    page = admin.open("/leases/next")
    page.evaluate("window.sameDocument = true")
    expect(page.get_by_role("heading", name="Waiting, number 1")).to_be_visible()
    expect(page.get_by_role("region", name="Facts")).to_contain_text(
        f"needs {whole.removesuffix('.0')} CPUs, 0 free"
    )
    expect(admin.page).to_have_title("next is queued · Leasing")
    api.delete("/leases/holder")
    expect(page.get_by_role("status").filter(has_text="running")).to_be_visible()
    expect(page.get_by_role("log")).to_contain_text("my turn")
    expect(page.get_by_role("heading", name="Waiting")).to_have_count(0)
    assert page.evaluate("window.sameDocument")


def test_a_form_that_is_sent_twice_asks_once(admin: Tab, small: Small, api: httpx.Client) -> None:
    """As a second click does, or a reload after a slow answer."""
    page = admin.open("/new")
    _fill(page, image=BUSYBOX, cpus="0.1", memory="64M")
    page.get_by_label("Command").fill("sleep 600")
    send = """() => fetch("/new", {method: "POST", body: new URLSearchParams(new FormData(document.forms[1]))})
        .then((answer) => answer.url)"""
    first, again = page.evaluate(send), page.evaluate(send)
    assert first == again
    # something else is another request
    page.get_by_label("Command").fill("sleep 500")
    page.get_by_role("button", name="Ask for it").click()
    expect(page.get_by_text("sleep 500")).to_be_visible()
    assert page.url != first
    until(lambda: len(api.get("/leases").json()["items"]) == 2, what="these two, and the end of those before")


def test_an_end_by_itself_is_told_without_a_reload(admin: Tab, small: Small) -> None:
    small("short", "sh", "-c", "echo last words; sleep 1.5; exit 3")
    page = admin.open("/leases/short")
    page.evaluate("window.sameDocument = true")
    expect(page.get_by_role("status").filter(has_text="ended")).to_be_visible()
    expect(page.get_by_text("its command ended with exit code 3").first).to_be_visible()
    expect(page.get_by_role("log")).to_contain_text("last words")
    expect(page.get_by_role("button", name="Extend")).to_have_count(0)
    assert page.evaluate("window.sameDocument")
    row = admin.open("/").get_by_role("row").filter(has_text="short")
    expect(row).to_contain_text("failed")


@pytest.mark.parametrize(
    "refused",
    [
        {
            "Name": ("Bad_Name", "lower-case letters"),
            "Image": ("two words", "is not an image reference"),
            "GPUs": ("9", "No node has 9 devices; the largest has 8."),
            "CPUs": ("4000", "the largest has"),
            "Memory": ("1M", "the least is 16M"),
            "Time": ("30d", "the limit is 7d"),
            "Give back when idle": ("1s", "too short an idle time"),
            "Port": ("99999", "65535"),
            "Workspace": ("No Way", "names no workspace"),
            "Variables": ("NVIDIA_VISIBLE_DEVICES=all", "platform's own"),
        },
        {
            "Name": ("twin", "There is a live lease called 'twin' already."),
            "GPUs": ("H100:2", "There is: NVIDIA A100-SXM4-40GB"),
            "Port": ("http", "is not a port"),
            "Variables": ("no equals sign", "Write NAME=value"),
        },
    ],
)
def test_each_thing_that_is_refused_is_told_beside_its_field(
    admin: Tab, small: Small, refused: dict[str, tuple[str, str]]
) -> None:
    admin.allow("422")
    if refused["Name"][0] == "twin":
        small("twin", "sleep", "600")
    page = admin.open("/new")
    for label, (value, _) in refused.items():
        page.get_by_label(label).fill(value)
    page.get_by_role("button", name="Ask for it").click()
    expect(page.locator("[aria-invalid=true]")).to_have_count(len(refused))
    expect(page.get_by_label(next(iter(refused)))).to_be_focused()
    for label, (value, said) in refused.items():
        expect(page.get_by_label(label)).to_have_value(value)
        expect(page.get_by_label(label)).to_have_accessible_description(re.compile(re.escape(said)))


def test_another_developer_sees_nothing_of_it(visit: Visit, small: Small, api: httpx.Client) -> None:
    small("private-job", "sleep", "600")
    eve = visit("eve")
    eve.allow("403")
    expect(eve.open("/").get_by_text("You hold nothing now.")).to_be_visible()
    expect(eve.open("/?all=true").get_by_text("You hold nothing now.")).to_be_visible()
    page = eve.open("/leases/private-job")
    expect(page.get_by_role("heading", name="Lease 'private-job' is somebody else's.")).to_be_visible()
    expect(page.get_by_text("sleep")).to_have_count(0)
    assert api.get("/leases/private-job").json()["state"] != "ended"


def test_what_people_wrote_is_shown_and_never_run(admin: Tab, small: Small) -> None:
    show = 'echo "$0"; while sleep 0.3; do :; done'
    name = small("hostile", "sh", "-c", show, HOSTILE, env={"TEXT": HOSTILE}, port=80)
    page = admin.open(f"/leases/{name}")
    expect(page.get_by_role("log")).to_contain_text(HOSTILE)
    expect(page.get_by_role("definition").filter(has_text=HOSTILE)).to_be_visible()
    assert page.locator("img[src=x], main script").count() == 0
    admin.allow("422")
    form = admin.open("/new")
    form.get_by_label("Command").fill(HOSTILE)
    form.get_by_label("Variables").fill(HOSTILE)
    form.get_by_label("Name").fill(HOSTILE[:40])
    form.get_by_role("button", name="Ask for it").click()
    expect(form.get_by_label("Command")).to_have_value(HOSTILE)
    expect(form).to_have_title("New lease · Leasing")
    assert form.locator("img[src=x], main script").count() == 0


def test_a_look_anew_leaves_the_reader_where_they_were(admin: Tab, small: Small) -> None:
    """Focus, a selection and what is half typed survive the page's own refreshing."""
    name = small("steady", "sleep", "600")
    page = admin.open("/")
    page.get_by_role("link", name=name).focus()
    page.evaluate("window.node = document.activeElement")
    with page.expect_response(lambda response: "hx-request" in response.request.headers):
        pass
    page.wait_for_function("document.activeElement === window.node")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=name)).to_be_visible()
    page.get_by_label("Extend by").fill("3")
    page.get_by_text(BUSYBOX).select_text()
    with page.expect_response(lambda response: "hx-request" in response.request.headers):
        pass
    assert page.evaluate("getSelection().toString()") == BUSYBOX
    expect(page.get_by_label("Extend by")).to_have_value("3")


def test_a_lost_connection_is_said_and_found_again(admin: Tab) -> None:
    admin.allow("ERR_INTERNET_DISCONNECTED", "console: htmx:")
    page = admin.open("/")
    page.context.set_offline(True)
    expect(page.get_by_text("The platform does not answer")).to_be_visible()
    page.context.set_offline(False)
    expect(page.get_by_text("The platform does not answer")).to_be_hidden()


def _fill(page: Page, **fields: str) -> None:
    labels = {"cpus": "CPUs", "env": "Variables"}
    for name, value in fields.items():
        page.get_by_label(labels.get(name, name.capitalize())).fill(value)
