"""A warning's whole way, through real processes: from a policy to a mail, and by its link back to a longer lease."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from tests.support.images import ensure_busybox
from tests.support.receiving import Mailbox, mail_server
from tests.support.stack import Stack, running, until

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("stack"), pytest.mark.timeout(240)]


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with mail_server() as box:
        yield box


@pytest.fixture
def stack(mailbox: Mailbox) -> Iterator[Stack]:
    with running(
        {"LEASING_NOTIFY_SMTP_URL": mailbox.url, "LEASING_NOTIFY_SMTP_FROM": "leasing@example.org"}
    ) as made:
        yield made


def test_a_mail_and_its_link(stack: Stack, mailbox: Mailbox) -> None:
    assert "lease notify set webhook" in stack.lease("notify").stdout
    stack.lease("notify", "set", "mail", "ada@example.org")
    assert "A message was sent: ada@example.org" in stack.lease("notify", "test", "mail").stdout
    assert mailbox.mails[0]["Subject"] == "Leasing reaches you"

    stack.lease("admin", "policy", "set", "house", "--warn", "10m")
    stack.lease(
        "up", "train", "--image", ensure_busybox(), "--for", "605s", "--cpus", "0.1", "--memory", "64M", "--",
        "sleep", "600",
    )  # fmt: skip
    until(lambda: len(mailbox.mails) > 1, what="the warning's mail")
    mail = mailbox.mails[1]
    text = mail.get_payload(decode=True).decode()  # type: ignore[union-attr]  # a plain text
    assert mail["Subject"] == "Lease train is running out of time"
    assert "train runs out of time and is suspended in" in stack.lease("ls").stdout
    inside = stack.lease("exec", "train", "--", "cat", "/run/lease/info.json").stdout
    assert json.loads(inside)["warning"].startswith("train runs out of time")
    assert "it was warned that train runs out of time" in stack.lease("events", "train").stdout

    link = f"{stack.url}/extend/{text.partition('/extend/')[2].split()[0]}"
    assert "Keep train" in httpx.get(link).text
    assert httpx.post(link).status_code == 200
    assert "in 2h" in stack.lease("ls").stdout
    assert stack.json("show", "train")["notices"] == []
    assert httpx.post(link).status_code == 410
    assert "in 4h" in stack.lease("extend", "train").stdout
