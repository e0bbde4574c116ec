"""The proxy by itself, a real HAProxy: that it never knows too much, nor for too long."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from api.gateway.proxy.front import NOTHING, Carried
from leasing.schema.endpoint import EndpointOptions
from tests.support import fronts, sources
from tests.support.fronts import Fronted, curl, headers, target, view, visitor
from tests.support.stack import until


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Fronted]:
    with fronts.opened(tmp_path) as made:
        yield made


def granted(front: Fronted) -> None:
    front.front.push(view([visitor("s")], [target(front.application.port)]))


def test_it_denies_until_it_was_told_and_again_once_nobody_tells_it(tmp_path: Path) -> None:
    with fronts.opened(tmp_path, stale_seconds=0.6) as front:
        before = front.call()
        assert (before.status_code, before.json()["code"]) == (503, "unavailable")

        def let_in() -> bool:
            granted(front)
            return front.call().text == "hello"

        until(let_in, what="a call while it is told")
        until(lambda: front.call().status_code == 503, what="the denial")
        until(let_in, what="a call while it is told again")


def test_a_change_is_in_force_when_it_was_pushed(front: Fronted) -> None:
    """Each way in which somebody may lose a call; and none of them starts the proxy anew."""
    pid, mine = front.pid, visitor("s")
    app = target(front.application.port)
    eve = visitor("e", "eve")
    for gone in (
        view([], [app]),
        view([mine], []),
        view([mine], [replace(app, state="stopping")]),
        view([mine], [replace(app, owner_id=uuid4())]),
        view([mine], [replace(app, address="198.51.100.7")]),
        view([mine], [replace(app, address="::1")]),
        view([mine], [replace(app, endpoint=EndpointOptions(rate=1.0))]),
        view([mine], [replace(app, endpoint=EndpointOptions(cache_seconds=1))]),
        view([(mine[0], replace(mine[1], lease_id=uuid4()))], [app]),
        view([eve], [app]),
    ):
        front.front.push(view([mine, eve], [app]))
        assert front.call().status_code == 200
        assert front.call("e").status_code == 503
        front.front.push(gone)
        assert front.call().status_code == 503, gone
    front.front.push(view([mine], [replace(app, endpoint=EndpointOptions(wake=True))]))
    assert front.call().status_code == 200
    assert front.pid == pid


def test_a_name_that_comes_again_leads_nobody_to_its_earlier_lease(front: Fronted) -> None:
    ada, eve = visitor("s"), visitor("e", "eve")
    front.front.push(view([ada, eve], [target(front.application.port)]))
    front.front.push(view([ada, eve], [target(front.application.port, owner="eve")]))
    assert (front.call().status_code, front.call("e").status_code) == (503, 200)


def test_a_token_ends_at_its_moment_without_another_view(front: Fronted) -> None:
    ends = front.now + timedelta(hours=1)
    front.front.push(view([visitor("s", expires_at=ends)], [target(front.application.port)]))
    assert front.call().status_code == 200
    front.now = ends
    until(lambda: front.call().status_code == 503, what="the end")


def test_thousands_of_grants_are_held_and_changed_as_a_diff(front: Fronted) -> None:
    many = [visitor(f"s{number}", f"user{number % 100}") for number in range(3000)]
    targets = [target(front.application.port, f"app{number}", f"user{number % 100}") for number in range(500)]
    front.front.push(view(many, targets))
    for number in (0, 99, 2999):
        assert front.call(f"s{number}", f"app{number % 100}").status_code == 200
        assert front.call(f"s{number}", f"app{(number + 1) % 100}").status_code == 503
    front.front.push(view(many[:-1], targets))
    assert front.call("s2999", "app99").status_code == 503
    assert front.call("s2899", "app99").status_code == 200


def test_a_proxy_that_dies_comes_back_with_everything_and_denies_until_told(front: Fronted) -> None:
    granted(front)
    first, hints = front.pid, len(front.hints)
    os.kill(first, signal.SIGKILL)
    until(lambda: len(front.hints) > hints, what="the new one")
    assert front.pid != first
    assert front.call().status_code == 503
    front.front.push(front.front._view)
    assert front.call().status_code == 200


def test_a_proxy_that_cannot_be_started_again_yet_is_tried_until_it_can(
    front: Fronted, caplog: pytest.LogCaptureFixture
) -> None:
    """Here a file cannot be written; a full disk and a machine without room for one process more say no likewise."""
    granted(front)
    configuration, hints = front.front.inner.parent / "haproxy.cfg", len(front.hints)
    configuration.unlink()
    configuration.mkdir()
    os.kill(front.pid, signal.SIGKILL)
    until(lambda: caplog.text.count("does not start") >= 2, what="two tries")
    granted(front)
    configuration.rmdir()
    until(lambda: len(front.hints) > hints, what="the new one")
    granted(front)
    assert front.call().status_code == 200


def test_a_proxy_that_hangs_does_not_keep_what_was_revoked(front: Fronted) -> None:
    granted(front)
    first = front.pid
    os.kill(first, signal.SIGSTOP)
    front.front.push(view([], []))  # returns once nothing passes any more
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    until(lambda: len(front.hints) == 2, what="the new one")
    front.front.push(view([], []))
    assert front.call().status_code == 503


def test_a_proxy_that_hangs_when_a_token_ends_gives_way_to_the_next(front: Fronted) -> None:
    ends = front.now + timedelta(hours=1)
    front.front.push(view([visitor("s", expires_at=ends)], [target(front.application.port)]))
    first = front.pid
    os.kill(first, signal.SIGSTOP)
    try:
        front.now = ends
        until(lambda: len(front.hints) == 2, what="the new one")
        with pytest.raises(ProcessLookupError):
            os.kill(first, 0)
    finally:
        with suppress(ProcessLookupError):
            os.kill(first, signal.SIGKILL)
    granted(front)
    assert front.call().status_code == 200


def streaming(_: bytes) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    while True:
        yield b"5\r\ndata\n\r\n"
        time.sleep(0.02)


@pytest.mark.parametrize("how", ["token", "lease"])
def test_all_streams_are_cut_with_their_token_or_their_lease_and_no_other(front: Fronted, how: str) -> None:
    front.application.answer = streaming
    ada, bob = visitor("s"), visitor("b", "bob", admin=True)
    app, other = target(front.application.port), target(front.application.port, "other")
    front.front.push(view([ada, bob], [app, other]))
    went: dict[str, str] = {}
    cut = ("first", "second", "third")
    beats: dict[str, int] = dict.fromkeys((*cut, "kept"), 0)

    def listen(which: str, secret: str, name: str) -> None:
        headers = {"Authorization": f"Bearer {secret}"}
        try:
            with httpx.stream("POST", f"{front.url}/l/{name}/", headers=headers) as answer:
                for _ in answer.iter_bytes():
                    beats[which] += 1
            went[which] = "ended"
        except httpx.RemoteProtocolError:
            went[which] = "cut"

    threads = [
        *(threading.Thread(target=listen, args=(one, "s", "app"), daemon=True) for one in cut),
        threading.Thread(
            target=listen, args=("kept", "b", "app" if how == "token" else "other"), daemon=True
        ),
    ]
    for one in threads:
        one.start()
    until(lambda: min(beats.values()) >= 3, what="all streams")
    front.front.push(
        view([bob] if how == "token" else [ada, bob], [app, other] if how == "token" else [other])
    )
    for one in threads[:-1]:
        one.join(5)
    assert went == dict.fromkeys(cut, "cut")
    more = beats["kept"]
    until(lambda: beats["kept"] > more + 3, what="the other stream goes on")


def test_what_nobody_serves_and_what_breaks_off_is_said(front: Fronted) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    front.front.push(view([visitor("s")], [target(port)]))
    nobody = front.call()
    assert (nobody.status_code, nobody.json()["code"]) == (503, "not_listening")
    assert f"0.0.0.0:{port}" in nobody.json()["detail"]
    front.application.answer = lambda _: [b"nonsense\r\n\r\n"]
    granted(front)
    broken = front.call()
    assert (broken.status_code, broken.json()["code"]) == (502, "bad_answer")
    front.application.answer = lambda _: [b"HTTP/1.1 503 Own\r\nContent-Length: 3\r\n\r\nown"]
    assert (front.call().status_code, front.call().text) == (503, "own")


def test_what_it_carried_is_counted_once_and_survives_nothing_being_asked(front: Fronted) -> None:
    app = target(front.application.port)
    front.front.push(view([visitor("s")], [app]))
    for _ in range(3):
        front.call()
    found = front.front.carried()[app.lease_id]
    assert found.requests == 3
    assert min(found.bytes_in, found.bytes_out) > 150
    assert front.front.carried().get(app.lease_id, NOTHING) == NOTHING


def test_counts_that_begin_anew_take_nothing_from_what_was_counted(front: Fronted) -> None:
    """A lease that nobody asks is forgotten after a day; requests are counted in 32 bits."""
    app, runtime = target(front.application.port), front.front._child.runtime
    front.front.push(view([visitor("s")], [app]))

    def called(times: int) -> Carried:
        for _ in range(times):
            front.call()
        until(lambda: all(row["use"] == "0" for row in runtime.do([], "leases")), what="their ends")
        return front.front.carried()[app.lease_id]

    three = called(3)
    runtime.do(["clear table leases"])
    one = called(1)
    assert (one.requests, three.requests) == (1, 3)
    runtime.do(["clear table leases"])
    assert front.front.carried() == {}
    assert called(1) == one, "the same figures as before, and others"
    (row,) = runtime.do([], "leases")
    runtime.do([f"set table leases key {row['key']} data.http_req_cnt {2**32 - 2}"])
    called(1)
    two = called(2)
    assert (two.requests, two.bytes_in) == (2, 2 * one.bytes_in)


def test_reads_are_carried_by_it_once_there_are_more_than_a_page_would_ask(front: Fronted) -> None:
    granted(front)
    with httpx.Client(headers={"Authorization": "Bearer s"}) as client:
        url = f"{front.url}/l/app/"
        assert client.get(url).status_code == 503
        until(lambda: client.get(url).status_code == 200, every=0, what="its carrying them")


def test_a_caller_that_sends_its_head_slowly_is_let_go(tmp_path: Path) -> None:
    with fronts.opened(tmp_path, header_seconds=0.5) as front:
        granted(front)
        answer = front.raw(b"POST /l/app/ HTTP/1.1\r\nHost: x\r\nX: ", seconds=5)
        assert b" 408 " in answer.partition(b"\r\n")[0]


def test_over_tls_it_speaks_both_versions_of_http_and_no_old_tls(tmp_path: Path) -> None:
    with fronts.opened(tmp_path, core={"listen": "127.0.0.1", **certificate(tmp_path)}) as front:
        granted(front)
        for version in ("--http1.1", "--http2"):
            said = curl(
                "-k",
                version,
                "-d",
                "x",
                "-H",
                "Authorization: Bearer s",
                "-w",
                " %{http_version}",
                f"{front.url}/l/app/",
            )
            assert said == f"hello {version[6:]}"
        assert headers(front.application.seen[0])["x-forwarded-proto"] == "https"
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with (
            socket.create_connection(("127.0.0.1", front.settings.gateway_port)) as plain,
            pytest.raises(ssl.SSLError),
        ):
            old.wrap_socket(plain)


def certificate(folder: Path) -> dict[str, object]:
    """One of ours, given as a company's own would be."""
    from api import certificate as own
    from leasing.settings.core import CoreSettings

    made, key = own.ensure(CoreSettings(state_dir=folder))
    return {"tls_certificate": made, "tls_key": key}


def test_nothing_of_a_lease_is_in_the_configuration_and_its_files_are_nobody_s(front: Fronted) -> None:
    folder = front.front.inner.parent
    before = (folder / "haproxy.cfg").read_text()
    granted(front)
    assert (folder / "haproxy.cfg").read_text() == before
    assert folder.stat().st_mode & 0o777 == 0o700
    with suppress(FileNotFoundError):
        status = Path(f"/proc/{front.pid}/status").read_text()
        uid = status.partition("Uid:")[2].split()[0]
        assert (uid == "0") == (os.geteuid() != 0 and uid == str(os.geteuid()))


def test_refusals_are_problems(front: Fronted) -> None:
    answer = front.call()
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(json.loads(answer.text)) == {"type", "title", "status", "code", "detail"}


def test_it_ends_with_its_gateway_however_that_ended_and_leaves_nothing_for_long(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from tests.support import fronts\n"
        "with fronts.opened(Path(sys.argv[1])) as made:\n"
        "    print(made.pid, made.front.inner.parent, flush=True); time.sleep(60)"
    )
    gateway = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path], cwd=sources.ROOT, stdout=subprocess.PIPE, text=True
    )
    with gateway:
        assert gateway.stdout is not None
        pid, folder = gateway.stdout.readline().split()
        assert _lives(pid)
        gateway.kill()
    until(lambda: not _lives(pid), what="the proxy's end")
    with fronts.opened(tmp_path):
        assert not Path(folder).exists()


def _lives(pid: str) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
