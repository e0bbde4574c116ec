"""The SDK and the api agree: what an operation does, and that every refusal comes out as the class that was raised."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from leasing import Client, errors
from leasing.model import Device, Node
from leasing.sdk.transport import Transport
from tests.support.answering import answering
from tests.support.api import Served, token
from tests.support.cluster import IMAGE, Cluster


def test_a_lease_from_asking_to_its_end(cluster: Cluster, ada: Client) -> None:
    lease = ada.up(name="train", image=IMAGE, cpus="1", memory="64M", gpu="1", ttl="1h", env={"A": "b"})
    assert (lease.name, lease.state, lease.facts.owner, lease.facts.request.gpu) == (
        "train",
        "queued",
        "ada",
        "1",
    )
    assert lease.why().position == 1
    assert [one.lease for one in ada.queue()] == ["train"]
    cluster.plan()
    cluster.work()
    facts = lease.wait(seconds=5)
    assert facts.devices
    assert facts.ends_at is not None
    assert ada.lease("train").facts.id == facts.id
    assert [one.name for one in ada.leases(state="running")] == ["train"]

    assert lease.extend("1h").ends_at == facts.ends_at + timedelta(hours=1)
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=3)
    assert lease.extend(until=later).ends_at == later

    cluster.driver.say(cluster.container(facts.id), "grüße\n".encode())
    assert "".join(lease.logs(tail=10)) == "grüße\n"
    assert lease.exec(["true"]) == (0, b"")
    with pytest.raises(errors.LeasingError, match="without a port"):
        lease.endpoint()

    assert lease.release().state == "stopping"
    cluster.work()
    assert lease.refresh().state == "ended"
    assert lease.release().reason == "released"
    assert [one.kind for one in lease.events()][-1] == "lease.ended"
    assert [one.kind for one in lease.events(follow=True)] == [one.kind for one in lease.events()]
    assert list(ada.leases()) == []
    assert [one.name for one in ada.leases(ended=True)] == ["train"]
    with pytest.raises(errors.Gone):
        lease.extend("1h")


def test_a_lease_rests_and_goes_on(cluster: Cluster, ada: Client) -> None:
    lease = ada.up(name="train", image=IMAGE, cpus="1", memory="64M", ttl="1h")
    with pytest.raises(errors.Conflict, match="no files to keep yet"):
        lease.suspend()
    cluster.plan()
    cluster.work()
    lease.wait(seconds=5)
    assert (lease.suspend().state, lease.facts.goal) == ("stopping", "suspended")
    assert lease.why().summary == "It is being suspended: ada suspended it."
    with pytest.raises(errors.Conflict, match="still being stopped"):
        lease.resume()
    cluster.work()
    resting = lease.refresh()
    assert (resting.state, resting.suspend_reason, resting.ends_at, resting.node) == (
        "suspended",
        "asked",
        None,
        None,
    )
    assert resting.suspended_at is not None
    assert lease.why().summary.startswith("It is suspended: ada suspended it. Its files are kept until ")
    with pytest.raises(errors.LeasingError, match="is suspended: ada suspended it"):
        lease.wait(seconds=5)
    cluster_says = "".join(lease.logs())
    assert cluster_says == ""

    assert lease.resume().state == "queued"
    assert lease.why().summary.startswith(
        "It was suspended (ada suspended it) and waits to go on with its files"
    )
    cluster.plan()
    cluster.work()
    again = lease.wait(seconds=5)
    assert (again.suspend_reason, again.suspended_at, again.message) == (None, None, "")
    lease.release()
    with pytest.raises(errors.Gone):
        lease.suspend()


def test_a_with_block_gives_back_whatever_happens(ada: Client) -> None:
    lease = ada.up(image=IMAGE, cpus="1", memory="64M")
    with suppress(ZeroDivisionError), lease:
        raise ZeroDivisionError
    assert lease.facts.reason == "cancelled"


def test_waiting_for_a_lease_that_ends_says_why(ada: Client) -> None:
    lease = ada.up(image=IMAGE, cpus="1", memory="64M")
    with pytest.raises(TimeoutError, match="still queued"):
        lease.wait(seconds=0)
    ada.lease(lease.name).release()
    with pytest.raises(errors.LeasingError, match="cancelled"):
        lease.wait(seconds=5)


def test_a_listing_longer_than_a_page_is_read_to_its_end(
    cluster: Cluster, ada: Client, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("client", "lease", "admin"):
        monkeypatch.setattr(f"leasing.sdk.{module}.PAGE", 2)
    names = [cluster.ask(name=f"n{number}").name for number in range(5)]
    assert [one.name for one in ada.leases()] == names[::-1]
    assert [one.name for one in root.leases(everyone=True)] == names[::-1]
    lease = ada.lease("n0")
    lease.release()
    assert [one.kind for one in lease.events()] == ["lease.queued", "lease.ended"]
    asked = [one.message for one in root.admin.events() if one.kind == "lease.queued"]
    assert asked == [f"ada asked for {name}" for name in names]


def test_what_there_is(api: Served, cluster: Cluster, ada: Client) -> None:
    assert (ada.me().name, ada.me().role) == ("ada", "developer")
    (node,) = ada.nodes()
    assert (node.name, node.devices) == ("local", 2)
    (offer,) = ada.offers()
    assert (offer.node, sum(offer.devices_total.values())) == ("local", 2)
    assert {device.state for device in ada.devices()} == {"free"}
    assert [one.name for one in ada.images()] == ["base"]
    assert ada.queue() == []


def test_signing_in_and_tokens(api: Served, ada: Client, root: Client) -> None:
    link = ada.signin_link("ada").url
    secret = link.partition("secret=")[2]
    with Client.sign_in(api.url, secret, label="laptop") as laptop:
        assert laptop.me().name == "ada"
        (own,) = (one for one in laptop.tokens() if one.label == "laptop")
        assert own.secret is None
        made = laptop.create_token("ci", ttl="30d")
        assert made.secret is not None
        assert made.expires_at is not None
        with Client(api.url, made.secret) as ci:
            assert ci.me().name == "ada"
            laptop.revoke_token(made.id)
            with pytest.raises(errors.NotSignedIn):
                ci.me()
    with pytest.raises(errors.NotSignedIn):
        Client.sign_in(api.url, secret)
    assert root.create_token("for ada", user="ada").user == "ada"


def test_administration(api: Served, root: Client) -> None:
    assert root.admin.create_user("eve").role == "developer"
    assert root.signin_link("eve").url.startswith(api.url)
    assert root.admin.change_user("eve", role="admin").role == "admin"
    assert root.admin.change_user("eve", disabled=True).disabled_at is not None
    assert "eve" in [one.name for one in root.admin.users()]

    assert root.admin.change_node("local", "cordoned").intent == "cordoned"
    assert root.admin.change_node("local", "open").intent == "open"
    with pytest.raises(errors.Conflict, match="it is not lost"):
        root.admin.give_up_node("local")
    with api.cluster.sessions.begin() as session:
        session.execute(sa.update(Node).values(health="unreachable"))
    assert root.admin.give_up_node("local").health == "lost"
    assert root.admin.change_node("local", "open").health == "lost", "it has not answered yet"
    uuid = root.devices()[0].uuid
    assert root.admin.change_device(uuid, "cordoned").intent == "cordoned"
    with api.cluster.sessions.begin() as session:
        session.execute(sa.update(Device).where(Device.uuid == uuid).values(faults={"fault": "Xid 79"}))
    assert root.admin.clear_device(uuid).intent == "cordoned"
    with api.cluster.sessions() as session:
        assert session.execute(sa.select(Device.faults).where(Device.uuid == uuid)).scalar_one() == {}
    assert f"root accepted the state of device {uuid}" in [one.message for one in root.admin.events()]
    with pytest.raises(errors.Invalid, match="give intent or clear"):
        root.transport.call("PATCH", f"/devices/{uuid}", json={})
    assert "root made node local cordoned" in [one.message for one in root.admin.events()]

    assert root.admin.add_registry("registry.example:5000", "robot", "s3cret").username == "robot"
    assert [one.host for one in root.admin.registries()] == ["registry.example:5000"]
    root.admin.remove_registry("registry.example:5000")
    assert root.admin.registries() == []


REFUSED: tuple[tuple[type[errors.LeasingError], Callable[[Client], Any]], ...] = (
    (errors.Invalid, lambda ada: ada.up(name="Not A Name")),
    (errors.Invalid, lambda ada: ada.up(memory="lots")),
    (errors.Invalid, lambda ada: ada.up(port=99_999)),
    (errors.Invalid, lambda ada: ada.up(nosuch="field")),
    (errors.Invalid, lambda ada: ada.lease("")),
    (errors.Invalid, lambda ada: ada.lease("..")),
    (errors.Invalid, lambda ada: list(ada.leases(state="odd"))),
    (errors.Invalid, lambda ada: ada.lease("waiting").extend("1h", until=datetime.now(UTC))),
    (errors.NeverFits, lambda ada: ada.up(image=IMAGE, cpus="500", memory="64M")),
    (errors.NotFound, lambda ada: ada.lease("nosuch")),
    (errors.NotFound, lambda ada: ada.lease("a/b?c#d")),
    (errors.NotAllowed, lambda ada: ada.admin.users()),
    (errors.NotAllowed, lambda ada: ada.admin.add_registry("r", "u", "s")),
    (errors.NotAllowed, lambda ada: ada.signin_link("root")),
    (errors.NameTaken, lambda ada: ada.up(name="waiting", image=IMAGE)),
    (errors.Conflict, lambda ada: list(ada.lease("waiting").logs())),
    (errors.Conflict, lambda ada: ada.lease("waiting").exec(["true"])),
)


def test_a_refusal_comes_out_as_what_it_was(cluster: Cluster, ada: Client, root: Client) -> None:
    """In one test, for each case would wait for a server of its own."""
    cluster.ask(name="waiting")
    for number, (error, act) in enumerate(REFUSED):
        with pytest.raises(errors.LeasingError) as refused:
            act(ada)
        assert type(refused.value) is error, f"case {number}: {refused.value!r}"
        assert refused.value.message


def test_who_is_not_signed_in_and_who_is_away(api: Served, tmp_path: Path) -> None:
    with Client(api.url, "lse_wrong") as nobody, pytest.raises(errors.NotSignedIn):
        nobody.me()
    with (
        Client("http://127.0.0.1:1", "any") as away,
        pytest.raises(errors.Unavailable, match="does not answer"),
    ):
        away.me()
    for address in ("nonsense", "ftp://127.0.0.1", "http://[::1"):
        with pytest.raises(errors.Invalid, match="not the address"):
            Client(address, "any").me()
    with pytest.raises(errors.Invalid, match="token"):
        Client(api.url, "schlüssel")


@pytest.mark.parametrize(
    ("error", "status", "body", "kind"),
    [
        (errors.LeasingError, 200, b"<html>Sign in to the hotel's network</html>", "text/html"),
        (errors.LeasingError, 200, b'{"items": "none"}', "application/json"),
        (errors.LeasingError, 200, b"[]", "application/json"),
        (errors.LeasingError, 302, b"", "text/html"),
        (errors.LeasingError, 500, b"<html>Oops</html>", "text/html"),
        (errors.Unavailable, 502, b"<html>Bad gateway</html>", "text/html"),
        (errors.Unavailable, 503, b"", "text/plain"),
        (
            errors.NotFound,
            404,
            b'{"code": "some_new_thing", "detail": "Not here."}',
            "application/problem+json",
        ),
        (errors.NotFound, 404, b'{"detail": "Not Found"}', "application/json"),
    ],
)
def test_a_stranger_s_answer_is_an_error_of_ours(
    error: type[errors.LeasingError], status: int, body: bytes, kind: str
) -> None:
    with (
        answering(status, body, kind) as url,
        Client(url, "any") as client,
        pytest.raises(errors.LeasingError) as refused,
    ):
        list(client.leases())
    assert type(refused.value) is error


def test_a_newer_server_s_fields_and_words_do_no_harm(cluster: Cluster, api: Served) -> None:
    cluster.ask(name="old")
    headers = {"Authorization": f"Bearer {token(cluster, cluster.ada)}"}
    page = httpx.get(f"{api.url}/api/v1/leases", headers=headers).json()
    page["items"][0] |= {"state": "hibernating", "reason": "eclipse", "moon": {"phase": "new"}}
    page["items"][0]["request"]["fan"] = "quiet"
    page["total"] = 1
    with answering(200, json.dumps(page).encode()) as url, Client(url, "any") as client:
        (lease,) = client.leases()
    assert (lease.name, lease.state, lease.reason) == ("old", "hibernating", "eclipse")


def test_asking_again_after_a_lost_answer_makes_one_lease(
    api: Served, cluster: Cluster, ada: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = Transport.call
    lost: list[str] = []

    def losing(self: Transport, method: str, path: str, **arguments: Any) -> Any:
        answer = call(self, method, path, **arguments)
        if method == "POST" and not lost:
            lost.append(path)
            raise errors.Unavailable
        return answer

    monkeypatch.setattr(Transport, "call", losing)
    lease = ada.up(image=IMAGE, cpus="1", memory="64M")
    assert lost
    assert [one.id for one in ada.leases()] == [lease.facts.id]
