"""The outbox: every warning reaches its channels at least once, whoever dies and whatever does not answer."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet

from leasing.errors import Invalid
from leasing.model import Contact, Event, Lease, Notice
from leasing.service import contacts, links
from leasing.service.principal import Principal
from leasing.settings.notify import NotifySettings
from leasing.states import Channel
from scheduler.delivery.letter import Letter
from scheduler.delivery.post import deliver
from scheduler.delivery.postman import Keys, Postman
from scheduler.reconcile import nodes, notices
from scheduler.reconcile.outbox import Outbox
from tests.support.absent import falls_silent, with_failing
from tests.support.cluster import Cluster, user
from tests.support.receiving import Mailbox, Receiver, http_receiver, mail_server
from tests.support.warned import clock, notices_of, quiet_since, reclaimer

SEAL = Fernet(Fernet.generate_key())
KEYS = Keys(SEAL, b"k" * 32)
HOUR = timedelta(hours=1)


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url) as made:
        yield made


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with mail_server() as box:
        yield box


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with http_receiver() as made:
        yield made


def outbox(cluster: Cluster, settings: NotifySettings, send: Callable[[Letter], str] = deliver) -> Outbox:
    postman = Postman(
        cluster.sessions, cluster.fleet, cluster.installation, settings, url="http://pages", keys=KEYS, send=send
    )  # fmt: skip
    return Outbox(cluster.sessions, postman, settings)


def warned(cluster: Cluster, settings: NotifySettings) -> Lease:
    lease = cluster.run(name="train", idle_timeout="1h", ttl="8h")
    quiet_since(cluster, lease, HOUR)
    reclaimer(cluster, **settings.model_dump()).run_once()
    return lease


def told_by(cluster: Cluster, settings: NotifySettings, channel: str, address: str) -> str | None:
    with cluster.sessions.begin() as session:
        return contacts.store(session, channel, address, SEAL, settings, principal=cluster.ada).secret


def taking(sent: list[Letter]) -> Callable[[Letter], str]:
    """Takes every letter."""

    def take(letter: Letter) -> str:
        sent.append(letter)
        return ""

    return take


def due_again(cluster: Cluster) -> None:
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Notice).values(retry_at=sa.func.now(), claim_until=None))


def by_channel(cluster: Cluster, lease: Lease) -> dict[str, Notice]:
    return {one.channel: one for one in notices_of(cluster, lease.id)}


def test_each_channel_gets_its_own(cluster: Cluster, mailbox: Mailbox, receiver: Receiver) -> None:
    settings = NotifySettings(
        smtp_url=mailbox.url, smtp_from="leasing@example.org", allow="127.0.0.1", chat_schemes="ntfy"
    )
    told_by(cluster, settings, "mail", "ada@example.org")
    secret = told_by(cluster, settings, "webhook", f"{receiver.url}/hook")
    told_by(cluster, settings, "chat", f"ntfy{receiver.url.removeprefix('http')}/gpus")
    lease = warned(cluster, settings)
    assert set(by_channel(cluster, lease)) == {"web", "shell", "mail", "webhook", "chat"}
    outbox(cluster, settings).run_once()
    rows = by_channel(cluster, lease)
    assert all(row.delivered_at is not None for row in rows.values()), [row.error for row in rows.values()]

    (mail,) = mailbox.mails
    assert mailbox.to == ["ada@example.org"]
    assert mail["Subject"] == "Lease train is idle"
    assert str(rows["mail"].id) in mail["Message-ID"]
    text = mail.get_payload(decode=True).decode()  # type: ignore[union-attr]  # a plain text
    assert "train is idle (GPU, CPU quiet for a while) and is suspended at " in text
    assert "lease extend train" in text
    link = text.partition("http://pages/extend/")[2].split()[0]
    assert links.read(KEYS.links, link, now=clock(cluster)).lease_id == lease.id

    hook, chat = sorted(receiver.calls, key=lambda call: call.path != "/hook")
    said = json.loads(hook.body)
    assert (said["id"], said["kind"], said["lease"]["name"]) == (str(rows["webhook"].id), "idle", "train")
    signed = f"{hook.headers['X-Leasing-Timestamp']}.".encode() + hook.body
    digest = hmac.new((secret or "").encode(), signed, hashlib.sha256).hexdigest()
    assert hook.headers["X-Leasing-Signature"] == f"sha256={digest}"
    assert b"train is idle" in chat.body
    info = json.loads(cluster.driver.file(cluster.container(lease.id), "/run/lease/info.json") or b"")
    assert info["warning"].startswith("train is idle")
    assert info["reclaim_at"] == rows["shell"].deadline.isoformat()


def test_what_fails_is_tried_ever_later_with_the_same_id_and_given_up_aloud(
    cluster: Cluster, mailbox: Mailbox
) -> None:
    settings = NotifySettings(smtp_url=mailbox.url, attempts=2, timeout_seconds=5)
    told_by(cluster, settings, "mail", "ada@example.org")
    mailbox.refuse = 1
    lease = warned(cluster, settings)
    outbox(cluster, settings).run_once()
    once = by_channel(cluster, lease)["mail"]
    assert once.delivered_at is None
    assert once.error
    assert once.retry_at > clock(cluster)
    due_again(cluster)
    outbox(cluster, settings).run_once()
    assert by_channel(cluster, lease)["mail"].delivered_at is not None
    assert len(mailbox.mails) == 1

    mailbox.refuse = 9
    with cluster.sessions.begin() as session:
        session.execute(
            sa.update(Notice).where(Notice.channel == "mail").values(delivered_at=None, attempts=0)
        )
    for _ in range(3):
        due_again(cluster)
        outbox(cluster, settings).run_once()
    gone = by_channel(cluster, lease)["mail"]
    assert (gone.attempts, gone.given_up_at is not None) == (2, True)
    with cluster.sessions() as session:
        event = session.execute(sa.select(Event).where(Event.kind == "lease.unwarned")).scalar_one()
        assert "mail was given up after 2 tries" in event.message
        assert session.execute(sa.select(Contact.error)).scalar_one() != ""


def test_an_engine_that_is_known_to_be_away_keeps_no_warning_waiting(cluster: Cluster) -> None:
    cluster, driver = with_failing(cluster)
    sent: list[Letter] = []
    settings = NotifySettings(webhook_url="http://hooks.test/x")
    lease = warned(cluster, settings)
    falls_silent(cluster, driver)
    outbox(cluster, settings, taking(sent)).run_once()
    notices.run_once(cluster.sessions, cluster.fleet, cluster.installation)
    assert driver.asked == 0
    assert len(sent) == 1
    shell = by_channel(cluster, lease)["shell"]
    assert (shell.delivered_at, shell.error) == (None, "its node does not answer")
    driver.knobs.down = False
    nodes.run_once(cluster.sessions, cluster.fleet)
    due_again(cluster)
    outbox(cluster, settings, taking(sent)).run_once()
    assert by_channel(cluster, lease)["shell"].delivered_at is not None
    assert driver.file(cluster.container(lease.id), "/run/lease/info.json") is not None


def test_a_deadline_that_moved_is_told_nobody(cluster: Cluster) -> None:
    sent: list[Letter] = []
    settings = NotifySettings(webhook_url="http://hooks.test/x")
    lease = warned(cluster, settings)
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Lease).values(idle_since=None, reclaim_at=None))
    outbox(cluster, settings, taking(sent)).run_once()
    assert sent == []
    assert by_channel(cluster, lease)["webhook"].voided_at is not None
    quiet_since(cluster, lease, HOUR)
    reclaimer(cluster, **settings.model_dump()).run_once()
    outbox(cluster, settings, taking(sent)).run_once()
    assert len(sent) == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_around_the_delivery_repeats_it_with_the_same_id(
    cluster: Cluster, receiver: Receiver, when: str
) -> None:
    settings = NotifySettings(webhook_url=receiver.url, allow="127.0.0.1")
    lease = warned(cluster, settings)
    script = f"""
import os, signal, sys
from scheduler.delivery import postman
from tests.integration import test_outbox as own
from tests.support.cluster import Cluster
from leasing.settings.notify import NotifySettings
def deadly(letter):
    if {when!r} == "after":
        own.deliver(letter)
    os.kill(os.getpid(), signal.SIGKILL)
settings = NotifySettings(webhook_url={receiver.url!r})
from leasing.database import create_engine, sessions
from leasing.errors import DriverError
from scheduler.fleet import Fleet
made = sessions(create_engine({cluster.url!r}, "doomed"))
def absent(*place):
    raise DriverError("this process reaches no engine")
man = postman.Postman(made, Fleet(made, absent), "x", settings, url="", keys=own.KEYS, send=deadly)
own.Outbox(made, man, settings).run_once()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": str(Path.cwd())}, check=False
    )
    assert done.returncode == -signal.SIGKILL
    calls = len(receiver.calls)
    assert calls == (1 if when == "after" else 0)
    outbox(cluster, settings).run_once()
    assert len(receiver.calls) == calls, "it is claimed, and its claim has not run out"
    due_again(cluster)
    outbox(cluster, settings).run_once()
    assert len(receiver.calls) == calls + 1
    assert {json.loads(call.body)["id"] for call in receiver.calls} == {
        str(by_channel(cluster, lease)["webhook"].id)
    }


def test_two_outboxes_at_once_share_the_work(cluster: Cluster) -> None:
    settings = NotifySettings(webhook_url="http://hooks.test/x")
    warned(cluster, settings)
    sent: list[Letter] = []
    other = outbox(cluster, settings, taking(sent))

    def meanwhile(letter: Letter) -> str:
        other.run_once()
        sent.append(letter)
        return ""

    outbox(cluster, settings, meanwhile).run_once()
    assert len(sent) == 1


def owned_by(cluster: Cluster, who: Principal, lease: Lease) -> Lease:
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Lease).where(Lease.id == lease.id).values(owner_id=who.user_id))
    return lease


def told_at(cluster: Cluster, who: Principal, address: str) -> None:
    with cluster.sessions.begin() as session:
        contacts.store(session, "webhook", address, SEAL, NotifySettings(), principal=who)


def test_a_webhook_that_takes_for_ever_keeps_nobody_else_waiting(cluster: Cluster) -> None:
    settings = NotifySettings()
    with cluster.sessions.begin() as session:
        grace = user(session, "grace")
    told_at(cluster, cluster.ada, "https://hole.test/x")
    told_at(cluster, grace, "https://fine.test/x")
    for _ in range(5):
        quiet_since(cluster, cluster.run(idle_timeout="1h", ttl="8h"), HOUR)
    reclaimer(cluster).run_once()
    quiet_since(cluster, owned_by(cluster, grace, cluster.run(idle_timeout="1h", ttl="8h")), HOUR)
    reclaimer(cluster).run_once()
    told, waited = threading.Event(), []

    def send(letter: Letter) -> str:
        if "fine" in letter.address:
            told.set()
            return ""
        waited.append(told.wait(5))
        return "it took for ever"

    outbox(cluster, settings, send).run_once()
    assert waited == [True] * 5, "hers went beside the first of his, and before the others"


def test_what_failed_comes_after_what_was_never_tried(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.reconcile.outbox.SIDE_BY_SIDE", 1)
    with cluster.sessions.begin() as session:
        grace = user(session, "grace")
    told_at(cluster, cluster.ada, "https://hole.test/x")
    told_at(cluster, grace, "https://fine.test/x")
    for _ in range(2):
        quiet_since(cluster, cluster.run(idle_timeout="1h", ttl="8h"), HOUR)
    reclaimer(cluster).run_once()
    sent: list[str] = []

    def send(letter: Letter) -> str:
        sent.append(letter.address.partition("//")[2].partition(".")[0])
        return "no" if "hole" in letter.address else ""

    box = outbox(cluster, NotifySettings(), send)
    box.run_once()
    assert sent == ["hole"] * 2
    due_again(cluster)
    late = owned_by(cluster, grace, cluster.run(idle_timeout="1h", ttl="8h"))
    for lease in (cluster.run(idle_timeout="1h", ttl="8h"), late):
        quiet_since(cluster, lease, HOUR)
    reclaimer(cluster).run_once()
    with cluster.sessions.begin() as session:
        contacts.test(session, "webhook", principal=cluster.ada, now=clock(cluster))
    box.run_once()
    assert sent[2:] == ["fine", "hole", "hole", "hole", "hole"], "nor does a trial come before it"


@pytest.mark.parametrize(
    ("channel", "address"),
    [
        ("webhook", "http://127.0.0.1:{port}/x"),
        ("webhook", "http://localhost.localdomain.test@127.0.0.1:{port}/x"),
        ("webhook", "http://[::1]:{port}/x"),
        ("webhook", "http://[::ffff:127.0.0.1]:{port}/x"),
        ("webhook", "http://169.254.169.254/latest/meta-data"),
        ("webhook", "http://10.0.0.1/x"),
        ("webhook", "file:///etc/passwd"),
        ("webhook", "gopher://example.org/x"),
        ("webhook", "https:///x"),
        ("chat", "dbus://"),
        ("chat", "syslog://"),
        ("chat", "file:///tmp/x"),
        ("chat", "json://example.org"),
        ("chat", "slack"),
        ("mail", "ada"),
        ("mail", "ada@example.org\r\nBcc:eve@example.org"),
        ("mail", "ada@example.org,eve@example.org"),
        ("shell", "anything"),
        ("pigeon", "coop 3"),
    ],
)
def test_addresses_that_lead_astray_are_refused(channel: str, address: str) -> None:
    settings = NotifySettings(smtp_url="smtp://mail.test")
    with pytest.raises(Invalid):
        contacts.checked(channel, address.format(port=9), settings)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "0x7f000001", "2130706433", "127.1", "localhost", "[::ffff:7f00:1]"]
)
def test_a_sender_connects_to_nothing_of_ours(receiver: Receiver, host: str) -> None:
    port = receiver.url.rpartition(":")[2]
    for channel, scheme in (("webhook", "http"), ("chat", "ntfy")):
        letter = Letter(
            id="1",
            channel=Channel(channel),
            address=f"{scheme}://{host}:{port}/x",
            title="t",
            body="b",
        )
        assert deliver(letter), "it was sent"
    assert receiver.calls == []


def test_a_redirect_leads_no_further(receiver: Receiver) -> None:
    receiver.elsewhere = f"{receiver.url.replace('127.0.0.1', '127.0.0.2')}/inside"
    letter = Letter(
        id="1",
        channel=Channel.WEBHOOK,
        address=receiver.url,
        title="t",
        body="b",
        reach=("127.0.0.1",),
    )
    assert "307" in deliver(letter)
    assert len(receiver.calls) == 1
