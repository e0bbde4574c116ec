"""A Docker Engine that is stopped, or dies, under a running platform: leases come back with what they had."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.support.engines import SecondEngine
from tests.support.images import BUSYBOX
from tests.support.stack import Stack, emptied, running, until

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("second-engine"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may start an engine"),
]
SMALL = ("--cpus", "0.1", "--memory", "64M", "--image", BUSYBOX)
SERVE = ("--port", "8000", "--", "sh", "-c", "cd /workspace && date >>starts && httpd -f -p 8000")


@pytest.fixture(scope="module")
def engine() -> Iterator[SecondEngine]:
    with SecondEngine() as made:
        yield made


@pytest.fixture(scope="module")
def platform(engine: SecondEngine) -> Iterator[Stack]:
    settings = {"LEASING_SCHEDULER_RECONCILE_SECONDS": "1", "LEASING_SCHEDULER_RETRY_SECONDS": "0.5"}
    with running(engine.environment | settings) as made:
        yield made


@pytest.fixture
def stack(platform: Stack) -> Iterator[Stack]:
    """With nothing on it before and after."""
    yield from emptied(platform)


def answer(stack: Stack, name: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {stack.lease('token').stdout.strip()}"}
    return httpx.get(f"{stack.gateway}/l/{name}/starts", headers=headers, timeout=10)


def serves(stack: Stack, name: str) -> bool:
    """While its network is put up again, the gateway may find a connection and lose it."""
    try:
        return answer(stack, name).status_code == 200
    except httpx.TransportError:
        return False


def node(stack: Stack) -> dict[str, str]:
    (found,) = stack.json("admin", "nodes", "ls")["items"]
    return dict(found)


@pytest.mark.parametrize("down", [SecondEngine.stop, SecondEngine.kill], ids=["stopped", "killed"])
def test_leases_come_back_with_their_engine(
    stack: Stack, engine: SecondEngine, down: Callable[[SecondEngine], None]
) -> None:
    stack.lease("up", "web", *SMALL, *SERVE)
    until(lambda: answer(stack, "web").status_code == 200, what="the application")
    (container,) = engine.leases()

    down(engine)
    until(lambda: node(stack)["health"] == "unreachable", what="the node's absence")
    stack.lease("up", "later", "--detach", *SMALL, "--", "sleep", "600")
    until(lambda: "unreachable" in stack.lease("why", "later").stdout, what="the planner's word")
    assert stack.state("web") in ("running", "starting"), "nobody says that it is over"

    engine.start()
    until(lambda: stack.state("later") == "running", what="the lease that waited")
    until(lambda: answer(stack, "web").status_code == 200, what="the application again")
    assert len(answer(stack, "web").text.splitlines()) == 2, "it has the files of its first start"
    assert stack.state("web") == "running"
    assert container in engine.leases(running=True), "the same container"
    told = stack.lease("events", "web").stdout
    assert "its engine or machine restarted" in told, told


def test_an_engine_that_is_up_before_its_disk_loses_nobody_s_work(stack: Stack, engine: SecondEngine) -> None:
    stack.lease("up", "web", *SMALL, *SERVE)
    until(lambda: answer(stack, "web").status_code == 200, what="the application")
    (container,) = engine.leases()
    disk = engine.data
    engine.stop()
    engine.data = engine.root / "unmounted"
    engine.start()
    until(lambda: "is its disk mounted?" in node(stack)["health_reason"], what="the missing container")
    assert stack.state("web") == "running"
    assert "does not know its container" in stack.lease("why", "web").stdout

    engine.stop()
    engine.data = disk
    engine.start()
    until(lambda: serves(stack, "web"), what="the application again")
    assert len(answer(stack, "web").text.splitlines()) == 2, "it has the files of its first start"
    assert engine.leases(running=True) == [container]
    until(lambda: node(stack)["health"] == "ready", what="the node")


def test_a_release_meanwhile_is_carried_out_when_the_engine_is_back(
    stack: Stack, engine: SecondEngine
) -> None:
    stack.lease("up", "gone", *SMALL, "--", "sleep", "600")
    engine.stop()
    stack.lease("release", "gone")
    assert stack.state("gone") == "stopping"
    engine.start()
    until(lambda: stack.state("gone") == "ended", what="the end")
    assert stack.json("show", "gone")["reason"] == "released"
    assert engine.leases() == []


def test_a_start_that_the_engine_s_stop_cut_short_is_made_again(stack: Stack, engine: SecondEngine) -> None:
    for number in range(6):
        stack.lease("up", f"batch-{number}", "--detach", *SMALL, "--", "sleep", "600")
    until(lambda: engine.leases(running=True), what="the first of them")
    engine.stop()
    engine.start()
    until(lambda: len(engine.leases(running=True)) == 6, what="all six containers", seconds=60)
    until(lambda: {one["state"] for one in stack.json("ls")} == {"running"}, what="all six leases")
    assert len(engine.leases()) == 6
