"""How pages look and are reached: by eye in both colours, on a phone, with a keyboard alone, by a screen reader."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.gallery import Gallery, gallery, walk
from tests.support import browser
from tests.support.browser import CONTRAST, DESK, PHONE, Tab
from tests.support.postgres import TestDatabases
from web import policy_trial, trying

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("stack"), pytest.mark.timeout(120)]

WIDER = """() => [...document.querySelectorAll("html, body *")].filter((e) => {
    const scrolls = ["auto", "scroll"].includes(getComputedStyle(e).overflowX) && e.scrollWidth > e.clientWidth + 1;
    return e.checkVisibility() && !e.ownerSVGElement && (scrolls || e.getBoundingClientRect().right > innerWidth + 1);
}).map((e) => e.outerHTML.slice(0, 120))"""
"""What reaches past the right edge, or must be scrolled sideways. A drawing cuts off what is in it: late in the day the
name of a reservation reaches past midnight."""

FITTED = """() => new Promise((done) => {
    const frame = (left) => requestAnimationFrame(() => left ? frame(left - 1) : done());
    frame(4);
})"""
"""A terminal fits itself to its window over some frames."""

NAMED = (
    "a, button, input:not([type=hidden]), textarea, img, table, nav, section[id], meter, progress, [role=log]"
)
NAMELESS = """(named) => [...document.querySelectorAll(named)].filter((e) => e.checkVisibility() && !(
    e.matches("a, button") && e.innerText.trim() || e.labels?.length
    || ["aria-label", "aria-labelledby", "alt"].some((name) => e.hasAttribute(name))
)).map((e) => e.outerHTML.slice(0, 120))"""


@dataclass(frozen=True)
class Seen:
    """What a page was like."""

    texts: dict[str, list[tuple[float, str]]]
    wider: list[str]
    nameless: list[str]
    title: str
    counts: dict[str, int]
    ids: list[str]


@pytest.fixture(scope="module")
def shown(databases: TestDatabases, state_root: Path) -> Iterator[Gallery]:
    with databases.migrated() as url, gallery(url, state_root) as made:
        yield made


@pytest.fixture
def ada(chromium: Browser, shown: Gallery) -> Iterator[Tab]:
    with browser.tab(chromium, shown.url, **shown.options()) as made:
        yield made


@pytest.fixture(scope="module")
def seen(chromium: Browser, shown: Gallery) -> dict[str, Seen]:
    """Each page as it was found, in one walk."""
    found = {}
    with browser.tab(chromium, shown.url, **shown.options()) as tab:
        tab.allow("404", "422")
        for name, page in walk(tab):
            texts = {}
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                texts[scheme] = page.evaluate(CONTRAST)
            page.set_viewport_size(PHONE)
            page.evaluate(FITTED)
            wider = page.evaluate(WIDER)
            page.set_viewport_size(DESK)
            found[name] = Seen(
                texts,
                wider,
                page.evaluate(NAMELESS, NAMED),
                page.title(),
                {
                    what: page.locator(what).count()
                    for what in ("html[lang=en]", "h1", "main", "header", "body")
                },
                page.locator("[id]").evaluate_all("all => all.map((one) => one.id)"),
            )
    return found


def test_every_text_can_be_read_in_light_and_dark(seen: dict[str, Seen]) -> None:
    shades = [(name, scheme, texts) for name, page in seen.items() for scheme, texts in page.texts.items()]
    assert all(len(texts) > 3 for _, _, texts in shades)
    assert not [(*where, text) for *where, texts in shades for text in texts if text[0] < 4.5]


def test_nothing_scrolls_sideways_on_a_phone(seen: dict[str, Seen]) -> None:
    assert not {name: page.wider for name, page in seen.items() if page.wider}


def test_every_page_tells_a_screen_reader_what_is_what(seen: dict[str, Seen]) -> None:
    for name, page in seen.items():
        assert page.nameless == [], name
        assert set(page.counts.values()) == {1}, (name, page.counts)
        assert len(page.ids) == len(set(page.ids)), name
    titles = {name: page.title for name, page in seen.items()}
    assert all(title.endswith(" · Leasing") for title in titles.values())
    assert titles["lease"] == "train-llama is running · Leasing"
    same = 8  # the form and usage twice, the lease, the calendar and the form of a policy three times
    assert len(set(titles.values())) == len(titles) - same, titles


def test_a_keyboard_alone_reaches_the_main_action(ada: Tab) -> None:
    page = ada.open("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    _tab_to(page, "New lease", within=3)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="New lease")).to_be_visible()
    _tab_to(page, "Ask for it", within=30)

    page = ada.open("/leases/notebook")
    _tab_to(page, "Release…", within=20)
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Keep it")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("button", name="Release…")).to_be_focused()


def test_machines_show_who_holds_which_device(ada: Tab) -> None:
    page = ada.open("/machines")
    devices = page.get_by_role("table", name="Devices").get_by_role("row")
    expect(devices).to_have_count(9)
    expect(devices.filter(has_text="train-llama")).to_have_count(2)
    expect(devices.filter(has_text="train-llama").first).to_contain_text("ada")
    expect(devices.filter(has_text="97%")).to_contain_text("NVIDIA A100-SXM4-40GB")
    expect(devices.filter(has_text="free")).to_have_count(1)
    node = page.get_by_role("table", name="Nodes").get_by_role("row").last
    expect(node).to_contain_text("1 of 8")
    expect(node).to_contain_text("driver 560.35.05")
    expect(page.get_by_role("table", name="Queue")).to_contain_text("pretrain-70b")


def test_the_calendar_shows_who_has_which_device_when(ada: Tab) -> None:
    page = ada.open("/calendar")
    lines = page.locator(".calendar .line:not(.axis)")
    expect(lines).to_have_count(8)
    expect(page.locator(".calendar .axis text")).to_have_count(7)
    expect(page.locator(".calendar .reserved.mine").filter(has_text="camera-ready, ada")).to_have_count(8)
    expect(
        page.locator(".calendar .reserved:not(.mine)").filter(has_text="pretrain-30b, grace")
    ).to_have_count(4)
    expect(page.locator(".calendar .lease.mine").filter(has_text="train-llama")).to_have_count(2)
    expect(page.locator(".calendar .lease:not(.mine)").filter(has_text="eval-mmlu, grace")).to_have_count(4)
    (before, bar, after) = (
        page.locator(selector).first.bounding_box()
        for selector in (".calendar line.now", ".calendar .reserved rect", ".calendar .track >> nth=1")
    )
    assert before
    assert bar
    assert after
    assert before["x"] < bar["x"] < bar["x"] + bar["width"] <= after["x"] + after["width"]

    rows = page.get_by_role("table", name="Reservations").get_by_role("row")
    expect(rows).to_have_count(7)
    expect(rows.filter(has_text="camera-ready")).to_contain_text("a100-1 / 0, 1, 2, 3, 4, 5, 6, 7")
    expect(rows.filter(has_text="pretrain-30b")).to_contain_text("grace")

    page.get_by_role("link", name="Day", exact=True).click()
    expect(page.locator(".calendar .axis text")).to_have_count(8)
    expect(page.get_by_role("link", name="Day", exact=True)).to_have_attribute("aria-current", "true")
    for _ in range(2):
        page.get_by_role("link", name="Week").click()
        page.get_by_role("link", name="Later").click()
    expect(page.get_by_text("Nothing is reserved in this time")).to_be_visible()
    expect(page.get_by_text("lease reserve add")).to_be_visible()
    page.get_by_role("link", name="Today").click()
    expect(rows).to_have_count(7)


def test_a_policy_is_tried_on_the_last_days_or_the_command_is_named(
    ada: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada.allow("422")
    page = ada.open("/new-policy")
    page.get_by_label("Idle after").fill("30m")
    page.get_by_label("Warned before").fill("10m")
    page.get_by_label("Signals count").fill("gpu=x")
    page.get_by_role("button", name="Try it first").click()
    expect(page.get_by_label("Signals count")).to_have_accessible_description(
        "'gpu=x' is no threshold. Write it like gpu=0.05"
    )
    page.get_by_label("Signals count").fill("")
    page.get_by_label("on the last").select_option("day")
    page.get_by_role("button", name="Try it first").click()
    told = page.get_by_role("region", name="What it would have done to the last day")
    expect(told).to_be_focused()
    expect(told).to_contain_text("suspended after 30m idle, warned 10m before")
    rows = told.get_by_role("table", name="All of them").get_by_role("row")
    expect(rows.filter(has_text="GPU-hours returned")).to_have_text(
        "GPU-hours returned 0.0 0.9", use_inner_text=True
    )
    expect(rows.filter(has_text="taken back")).to_contain_text("2")
    whom = told.get_by_role("table", name="Whom it would have happened to").get_by_role("row")
    expect(whom).to_have_count(2)
    expect(whom.last).to_contain_text("notebook")
    expect(page.get_by_label("Idle after")).to_have_value("30m")
    assert ada.open("/policies").get_by_role("row").count() == 4, "nothing was made"

    ada.allow("503")
    page = ada.open("/policies/lab")
    with trying.PLAYING:
        page.get_by_role("button", name="Try it first").click()
        expect(page.get_by_role("heading")).to_have_text("Another policy is being tried just now.")

    monkeypatch.setattr(policy_trial, "MOST_MINUTES", 60)
    page = ada.open("/policies/lab")
    page.get_by_role("button", name="Try it first").click()
    expect(told).to_have_count(0)
    too_much = page.get_by_role("region", name="What it would have done to the last 7 days")
    expect(too_much.get_by_role("alert")).to_contain_text("and a page plays 1 at most")
    expect(too_much).to_contain_text(
        "lease admin policy simulate --window 30m --threshold gpu=0.05 --hours "
        "'mon,tue,wed,thu,fri 09:00-18:00 UTC' --learned --days 7"
    )


def test_a_day_that_is_none_is_refused_in_words(ada: Tab) -> None:
    ada.allow("422")
    page = ada.open("/calendar?from=tomorrow")
    expect(page.get_by_role("heading")).to_contain_text("'tomorrow' is not a day")


def _tab_to(page: Page, name: str, *, within: int) -> None:
    """By the tab key; every stop on the way shows where it is."""
    for _ in range(within):
        page.keyboard.press("Tab")
        seen = page.evaluate("""() => {
            const e = document.activeElement, style = getComputedStyle(e);
            return [e.innerText || "", style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2];
        }""")
        assert seen[1] or not seen[0], f"focus cannot be seen on {seen[0]!r}"
        if seen[0] == name:
            return
    raise AssertionError(f"{within} tabs do not reach {name!r}")
