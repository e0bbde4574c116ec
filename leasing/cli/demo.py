"""`lease demo`: the main job by itself, each step with its time."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from leasing.cli import show
from leasing.cli.session import App, sdk
from leasing.errors import LeasingError, NotSignedIn, Unavailable

if TYPE_CHECKING:
    import httpx

    from leasing.sdk.client import Client, Lease

T = TypeVar("T")
PORT = 8000


def register(app: App) -> None:
    app.command("demo")(demo)


def demo() -> None:
    """Lease a container, call it, watch it, give it back."""
    try:
        session = sdk()
        session.me()
    except (NotSignedIn, Unavailable) as error:
        raise type(error)(
            f"The demo needs the platform: {error.message}", hint="Start it in another terminal: make run"
        ) from error
    with session:
        lease = _step(
            "lease up", lambda: _up(session), lambda lease: f"{lease.name} runs on {lease.facts.node}"
        )
        try:
            _use(session, lease)
        finally:
            _step("release", lambda: _release(lease), lambda _: f"ended ({lease.facts.reason})")
        _step(
            "container",
            lambda: _containers(lease),
            lambda left: "gone" if not left else f"still there: {left}",
        )


def _use(session: Client, lease: Lease) -> None:
    import httpx  # lazy: see session.sdk

    url = lease.facts.endpoint_url or ""
    _step("with token", lambda: _answer(lease), lambda answer: f"{answer.status_code} from {url}")
    _step(
        "without",
        lambda: httpx.get(url, verify=session.transport.verify, timeout=10),
        lambda answer: f"{answer.status_code}, as it should be",
    )
    metrics = _step(
        "metrics", lambda: _metrics(session, str(lease.facts.id)), lambda lines: f"{len(lines)} of this lease"
    )
    for line in metrics[:6]:
        print(f"              {show.dim(line)}")


def _up(session: Client) -> Lease:
    lease = session.up(
        image="base",
        cpus="0.5",
        memory="256M",
        ttl="10m",
        port=PORT,
        command=["python3", "-m", "http.server", str(PORT)],
    )
    lease.wait(seconds=600)
    return lease


def _answer(lease: Lease) -> httpx.Response:
    """The first 200; the application inside needs a moment to listen."""
    deadline = time.monotonic() + 30
    with lease.endpoint() as endpoint:
        while True:
            answer = endpoint.get("")
            if answer.status_code == 200:
                return answer
            if time.monotonic() > deadline:
                raise LeasingError(f"The endpoint answers {answer.status_code}: {answer.text[:200]}")
            time.sleep(0.1)


def _metrics(session: Client, lease_id: str) -> list[str]:
    import httpx  # lazy: see session.sdk

    answer = httpx.get(
        f"{session.credentials.url}/metrics",
        headers={"Authorization": f"Bearer {session.credentials.token}"},
        verify=session.transport.verify,
        timeout=10,
    )
    return [line for line in answer.text.splitlines() if lease_id in line]


def _release(lease: Lease) -> None:
    lease.release()
    deadline = time.monotonic() + 60
    while lease.refresh().state != "ended":
        if time.monotonic() > deadline:
            raise LeasingError(f"{lease.name} is still {lease.state}.")
        time.sleep(0.1)


def _containers(lease: Lease) -> str:
    """What the engine itself still has of the lease, where its own command is at hand."""
    docker = shutil.which("docker")
    if docker is None:
        return ""
    listed = subprocess.run(
        [docker, "ps", "-a", "--quiet", "--filter", f"label=leasing.lease={lease.facts.id}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return listed.stdout.strip()


def _step(name: str, work: Callable[[], T], said: Callable[[T], str]) -> T:
    began = time.monotonic()
    done = work()
    print(f"  {name.ljust(10)}  {time.monotonic() - began:6.2f} s  {said(done)}", flush=True)
    return done
