"""What the gateway is measured beside: other proxies in front of one small answer, each a process on one core.

As a program it is the plainest of them, on aiohttp: `python -m tests.benchmarks._proxies PORT ORIGIN`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import httpx
from aiohttp import web

from leasing.host import packages
from tests.support.stack import free_port, until

BYTES, CONNECTIONS = 1024, 64
CORES = sorted(os.sched_getaffinity(0))
PROXY, REST = CORES[0], ",".join(str(core) for core in CORES[1:]) or str(CORES[0])
"""The measured one has a core to itself; load and origin share the others."""
NGINX = """\
daemon off; worker_processes 1; pid {folder}/{name}.pid; error_log {folder}/{name}.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s;
  {http}
}}
"""
UPSTREAM = "upstream app {{ server 127.0.0.1:{origin}; keepalive 128; keepalive_requests 1000000000; }}"
PASS = 'proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection "";'


@dataclass(frozen=True)
class Load:
    """One round of it."""

    rate: float
    p99_ms: float
    cpu_us: float
    """Of the proxy, for each call: the figure that a busy machine disturbs least."""


@dataclass(frozen=True)
class Contestant:
    name: str
    url: str
    pid: int
    token: str = "none"

    def load(self, seconds: int) -> Load:
        """So long, all connections kept. Every answer must be a good one."""
        before = _cpu_seconds(self.pid)
        done = subprocess.run(
            [
                "taskset", "-c", REST, "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency",
                "--timeout", "20s",                "-H", f"Authorization: Bearer {self.token}", self.url,
            ],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        assert "Non-2xx" not in done, f"{self.name}: {done}"
        assert "Socket errors" not in done, f"{self.name}: {done}"
        rate, p99 = (
            re.search(r"Requests/sec:\s+([\d.]+)", done),
            re.search(r"99%\s+([\d.]+)(us|ms|s)\b", done),
        )
        calls = re.search(r"(\d+) requests in", done)
        assert rate, done
        assert p99, done
        assert calls, done
        spent = (_cpu_seconds(self.pid) - before) * 1e6 / int(calls[1])
        return Load(float(rate[1]), float(p99[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[p99[2]], spent)


def _cpu_seconds(pid: int) -> float:
    """What the process and those below it have used so far."""
    parents: dict[int, int] = {}
    used: dict[int, float] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            parents[int(entry.name)] = int(fields[1])
            tasks = (entry / "task").glob("*/schedstat")
            used[int(entry.name)] = sum(int(task.read_text().split()[0]) for task in tasks) / 1e9
    family = {pid}
    while more := {one for one, parent in parents.items() if parent in family} - family:
        family |= more
    return sum(used.get(one, 0.0) for one in family)


@contextmanager
def process(
    command: Sequence[str | Path], core: int | str, log: Path, environment: dict[str, str]
) -> Iterator[int]:
    """A program on those cores, for the length of a block; its process."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            ["taskset", "-c", str(core), *command], stdout=output, stderr=output, env=os.environ | environment
        )
    try:
        yield child.pid
    finally:
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()


@contextmanager
def nginx(folder: Path, name: str, http: str, core: int | str) -> Iterator[int]:
    path = folder / f"{name}.conf"
    path.write_text(NGINX.format(folder=folder, name=name, http=http))
    program = packages.program("nginx") or "nginx"
    with process([program, "-p", folder, "-c", path], core, folder / "peers.log", {}) as pid:
        yield pid


@contextmanager
def origin(folder: Path) -> Iterator[int]:
    """Port of the application."""
    port = free_port()
    answer = f"default_type text/plain; return 200 '{'x' * BYTES}';"
    with nginx(folder, "origin", f"server {{ listen 127.0.0.1:{port}; location / {{ {answer} }} }}", REST):
        answers(f"http://127.0.0.1:{port}/")
        yield port


@contextmanager
def peers(folder: Path, origin: int) -> Iterator[list[Contestant]]:
    """Those that this machine has; the first is what all are measured by."""
    with contextlib.ExitStack() as stack:
        found: list[Contestant] = []

        def add(name: str, port: int, pid: int) -> None:
            one = Contestant(name, f"http://127.0.0.1:{port}/l/lease-1/", pid)
            answers(one.url)
            found.append(one)

        upstream, plain, asked = UPSTREAM.format(origin=origin), free_port(), free_port()
        pid = stack.enter_context(
            nginx(
                folder,
                "pass",
                f"{upstream} server {{ listen 127.0.0.1:{plain}; location / {{ {PASS} }} }}",
                PROXY,
            )
        )
        add("nginx proxy_pass", plain, pid)
        http = f"""proxy_cache_path {folder}/cache keys_zone=auth:1m; {upstream}
          server {{ listen 127.0.0.1:{asked}; location / {{ auth_request /auth; {PASS} }}
            location = /auth {{ internal; {PASS} proxy_pass_request_body off; proxy_set_header Content-Length "";
              proxy_cache auth; proxy_cache_key $http_authorization; proxy_cache_valid 200 5s; }} }}"""
        pid = stack.enter_context(nginx(folder, "auth", http, PROXY))
        add("nginx auth_request", asked, pid)
        if (program := _configurable(folder)) is not None:
            port, api = free_port(), free_port()
            command: list[str | Path] = [
                program, "--ip=127.0.0.1", f"--port={port}", "--api-ip=127.0.0.1", f"--api-port={api}",
                f"--default-target=http://127.0.0.1:{origin}", "--log-level=error",
            ]  # fmt: skip
            environment = {"CONFIGPROXY_AUTH_TOKEN": "bench"}
            pid = stack.enter_context(process(command, PROXY, folder / "peers.log", environment))
            add("configurable-http-proxy", port, pid)
        port = free_port()
        command = [sys.executable, "-m", "tests.benchmarks._proxies", str(port), str(origin)]
        pid = stack.enter_context(process(command, PROXY, folder / "peers.log", {}))
        add("aiohttp", port, pid)
        yield found


def answers(url: str) -> None:
    def once() -> bool:
        try:
            return httpx.get(url).status_code == 200
        except httpx.TransportError:
            return False

    until(once, what=url, seconds=60)


def _configurable(folder: Path) -> Path | None:
    """Jupyter's proxy, from npm; None where there is none."""
    if shutil.which("npm") is None:
        return None
    quiet: list[str | Path] = [
        "npm",
        "install",
        "--silent",
        "--no-audit",
        "--no-fund",
        "--prefix",
        folder,
        "configurable-http-proxy@4",
    ]
    done = subprocess.run(quiet, capture_output=True, check=False)
    program = folder / "node_modules" / ".bin" / "configurable-http-proxy"
    return program if done.returncode == 0 and program.exists() else None


async def _serve(port: int, origin: int) -> web.Application:
    app = web.Application()

    async def carry(request: web.Request) -> web.Response:
        async with app["client"].request(
            request.method, f"http://127.0.0.1:{origin}{request.path_qs}"
        ) as answer:
            return web.Response(status=answer.status, body=await answer.read())

    async def connected(app: web.Application) -> None:
        app["client"] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    app.on_startup.append(connected)
    app.router.add_route("*", "/{tail:.*}", carry)
    return app


if __name__ == "__main__":
    web.run_app(
        _serve(int(sys.argv[1]), int(sys.argv[2])), host="127.0.0.1", port=int(sys.argv[1]), print=None
    )
