"""One click extends: the link of a warning, by whoever has it, once; and where people say they want to be told."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import httpx
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

import web
from leasing.errors import NotFound
from leasing.model import Contact, Lease, User
from leasing.secrets import signing_key
from leasing.service import links
from leasing.service.links import Link
from leasing.states import NoticeKind
from tests.support.api import Served, served, token
from tests.support.cluster import Cluster
from tests.support.warned import clock, notices_of, pass_time, quiet_since, reclaimer

HOUR = timedelta(hours=1)
KEY = b"k" * 32
LEASE_ID = UUID(int=7)
NOW = datetime.fromisoformat("2026-11-21T12:00:00+00:00")


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url) as made:
        yield made


@pytest.fixture
def pages(cluster: Cluster, tmp_path: Path) -> Iterator[Served]:
    with served(cluster, tmp_path, prepare=web.mount) as made:
        yield made


def link_to(pages: Served, lease: Lease, kind: NoticeKind, deadline: datetime) -> str:
    key = signing_key(pages.settings.secret_key_file(), links.PURPOSE)
    said = links.make(key, Link(lease.id, kind, deadline, deadline + timedelta(days=7)))
    return f"{pages.url}/extend/{said}"


def test_a_link_shows_first_then_extends_and_only_once(cluster: Cluster, pages: Served) -> None:
    lease = cluster.run(name="train", idle_timeout="1h", ttl="8h")
    quiet_since(cluster, lease, HOUR)
    reclaimer(cluster).run_once()
    deadline = notices_of(cluster, lease.id)[0].deadline
    link = link_to(pages, lease, NoticeKind.IDLE, deadline)
    for _ in range(2):  # a mail scanner fetches it as often as it likes
        shown = httpx.get(link)
        assert shown.status_code == 200
        assert "Keep train" in shown.text
        assert shown.headers["cache-control"] == "no-store"
    assert cluster.lease(lease.id).reclaim_at == deadline
    done = httpx.post(link)
    assert done.status_code == 200
    assert "train is not taken back as idle for a while" in done.text
    after = cluster.lease(lease.id)
    assert (after.reclaim_at, after.idle_since) == (None, None)
    again = httpx.post(link)
    assert again.status_code == 410
    assert "done already" in again.text
    assert "<button" not in httpx.get(link).text


def test_a_link_still_works_once_the_lease_rests(cluster: Cluster, pages: Served) -> None:
    lease = cluster.run(name="late", ttl="1h")
    ends = cluster.lease(lease.id).ends_at
    assert ends is not None
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Lease).values(ends_at=sa.func.now()))
    reclaimer(cluster).run_once()
    cluster.work()
    assert cluster.lease(lease.id).state == "suspended"
    link = link_to(pages, lease, NoticeKind.EXPIRY, clock(cluster))
    assert "Let late go on" in httpx.get(link).text
    assert httpx.post(link).status_code == 200
    assert cluster.lease(lease.id).state == "queued"


def test_what_we_did_not_sign_is_no_link(cluster: Cluster, pages: Served) -> None:
    lease = cluster.run(name="train", ttl="8h")
    ends = cluster.lease(lease.id).ends_at
    assert ends is not None
    good = link_to(pages, lease, NoticeKind.EXPIRY, ends)
    assert httpx.get(good).status_code == 200
    bad = [good[:-1] + ("A" if good[-1] != "A" else "B"), good[:-4], good + "A", f"{pages.url}/extend/x"]
    texts = set()
    for one in bad:
        answer = httpx.post(one)
        assert answer.status_code == 404
        texts.add(answer.text)
    assert len(texts) == 1, "every wrong link looks the same"
    key = signing_key(pages.settings.secret_key_file(), links.PURPOSE)
    other = Link(UUID(int=5), NoticeKind.EXPIRY, ends, ends)
    assert httpx.get(f"{pages.url}/extend/{links.make(key, other)}").status_code == 404
    with cluster.sessions.begin() as session:
        session.execute(sa.update(User).values(disabled_at=sa.func.now()))
    assert httpx.post(good).status_code == 404
    assert cluster.lease(lease.id).ends_at == ends


@given(st.binary(max_size=80), st.integers(0, 60), st.integers(1, 255))
def test_no_changed_link_is_good(noise: bytes, place: int, change: int) -> None:
    link = Link(LEASE_ID, NoticeKind.IDLE, NOW, NOW + HOUR)
    good = links.make(KEY, link)
    assert links.read(KEY, good, now=NOW) == link
    for text in (noise.decode("latin-1"), good[:place], _flipped(good, place, change), good + "="):
        if text != good:
            with pytest.raises(NotFound):
                links.read(KEY, text, now=NOW)
    with pytest.raises(NotFound):
        links.read(KEY[::-1] + b"x", good, now=NOW)


def _flipped(text: str, place: int, change: int) -> str:
    at = place % len(text)
    return text[:at] + chr((ord(text[at]) + change) % 256) + text[at + 1 :]


def test_contacts_are_set_tried_shown_without_secrets_and_removed(cluster: Cluster, pages: Served) -> None:
    with pages.client(token(cluster, cluster.ada)) as ada, pages.client(pages.user("eve")) as eve:
        assert ada.get("/contacts").json() == {"items": [], "channels": ["webhook", "chat"]}
        refused = ada.put("/contacts/webhook", json={"address": "http://127.0.0.1/x"})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid")
        assert ada.put("/contacts/mail", json={"address": "ada@example.org"}).status_code == 422
        secret = "https://user:hunter2@example.org/hook?token=hunter3"
        made = ada.put("/contacts/webhook", json={"address": secret}).json()
        assert (made["shown"], len(made["secret"])) == ("https://example.org/…", 43)
        listed = ada.get("/contacts").text
        assert "hunter" not in listed
        assert made["secret"] not in listed
        assert eve.get("/contacts").json()["items"] == []
        assert eve.delete("/contacts/webhook").status_code == 404
        assert ada.post("/contacts/webhook/test").json()["testing"]
        with cluster.sessions() as session:
            assert b"hunter" not in session.execute(sa.select(Contact.sealed_address)).scalar_one()
        assert ada.delete("/contacts/webhook").status_code == 204
        assert ada.post("/contacts/webhook/test").status_code == 404


def test_a_lease_says_what_it_is_warned_of(cluster: Cluster, pages: Served) -> None:
    lease = cluster.run(name="train", ttl="1h")
    pass_time(cluster, timedelta(minutes=50))
    reclaimer(cluster).run_once()
    with pages.client(token(cluster, cluster.ada)) as ada:
        (notice,) = ada.get("/leases/train").json()["notices"]
        assert notice["kind"] == "expiry"
        assert notice["message"] == "train runs out of time and is suspended"
        assert notice["hint"] == "lease extend train"
        assert ada.post("/leases/train/renew", json={}).json()["notices"] == []
    assert notices_of(cluster, lease.id)
