"""Suspending and going on, as people do it: a real engine, real files, and other devices afterwards."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

from tests.support import gpus
from tests.support.engines import SecondEngine
from tests.support.nvml import FakeNvml
from tests.support.stack import Stack, running, until

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("second-engine"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may start an engine"),
]
SMALL = ("--cpus", "0.1", "--memory", "64M", "--image", gpus.IMAGE)
SLEEP = ("--", "sleep", "600")


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> FakeNvml:
    return FakeNvml(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="module")
def engine(nvml: FakeNvml) -> Iterator[SecondEngine]:
    with SecondEngine(nvml=nvml) as made:
        driver = made.driver()
        gpus.ensure_image(driver)
        driver.close()
        yield made


@pytest.fixture(scope="module")
def stack(engine: SecondEngine, nvml: FakeNvml) -> Iterator[Stack]:
    # no network waits for the next start, so that each there is is a lease's
    settings = {"LEASING_LIMITS_DEVICES_PER_USER": "32", "LEASING_WARM_SANDBOXES": "0"}
    with running(engine.environment | nvml.environment() | settings) as made:
        until(lambda: len(made.json("admin", "devices", "ls")["items"]) == 8, what="the first report")
        made.lease("admin", "policy", "set", "house", "--protected", "0s")
        yield made


def devices(stack: Stack, name: str) -> set[str]:
    return {device["uuid"] for device in stack.json("show", name)["devices"]}


def seen(stack: Stack, name: str) -> set[str]:
    """What it sees from inside."""
    return set(stack.lease("exec", name, "--", *gpus.SHOW).stdout.split())


def write(stack: Stack, name: str) -> None:
    script = "echo model > $HOME/model; echo set > /workspace/set; echo scratch > /tmp/scratch"
    stack.lease("exec", name, "--", "sh", "-c", script)


def read(stack: Stack, name: str) -> str:
    script = "cat $HOME/model /workspace/set /tmp/scratch; echo $TOKEN"
    return stack.lease("exec", name, "--", "sh", "-c", script).stdout


def test_a_lease_rests_and_goes_on_with_its_files_on_other_devices(
    stack: Stack, engine: SecondEngine
) -> None:
    asked = ("--gpu", "2", "--workspace", "data", "--for", "2h", "--env", "TOKEN=s3cret")
    stack.lease("up", "train", *asked, *SMALL, *SLEEP)
    for name, count in (("pair", "2"), ("rest", "4")):
        stack.lease("up", name, "--gpu", count, *SMALL, *SLEEP)
    before, pair = devices(stack, "train"), devices(stack, "pair")
    write(stack, "train")

    assert "Go on: lease resume train" in stack.lease("suspend", "train").stdout
    until(lambda: stack.state("train") == "suspended", what="the suspension")
    assert re.search(r", with 1h5\dm left", stack.lease("why", "train").stdout)
    assert len(engine.docker("network", "ls", "-q", "--filter", "label=leasing.installation").split()) == 2
    stack.lease("up", "taker", "--gpu", "2", *SMALL, *SLEEP)
    assert devices(stack, "taker") == before

    detached = stack.lease("resume", "train", "--detach").stdout
    assert "train is queued" in detached
    stack.lease("release", "pair")
    stack.lease("resume", "train")
    until(lambda: stack.state("train") == "running", what="its going on")
    assert devices(stack, "train") == seen(stack, "train") == pair
    assert read(stack, "train") == "model\nset\nscratch\ns3cret\n"
    image = engine.docker(
        "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "--filter", "label=leasing.role=kept"
    )
    assert "s3cret" not in engine.docker("image", "inspect", "--format", "{{json .Config}}", image.strip())

    for name in ("train", "rest", "taker"):
        stack.lease("release", name)
    until(lambda: stack.json("ls") == [], what="every end")
    until(lambda: engine.leases() == [], what="every container's end")
    kept = ("image", "ls", "-q", "--filter", "label=leasing.role=kept")
    until(lambda: engine.docker(*kept).split() == [], what="the end of what was kept")


def test_whoever_gives_way_goes_on_by_itself(stack: Stack) -> None:
    stack.lease("up", "low", "--gpu", "8", "--preemptible", "--priority", "low", *SMALL, *SLEEP)
    write(stack, "low")
    stack.lease("up", "urgent", "--gpu", "8", *SMALL, *SLEEP)
    until(lambda: stack.state("low") == "queued", what="its giving way")
    assert "It was preempted (it gives way to urgent" in stack.lease("why", "low").stdout
    assert "gave way" in stack.lease("ls").stdout
    stack.lease("release", "urgent")
    until(lambda: stack.state("low") == "running", what="its going on")
    assert read(stack, "low").startswith("model\n")
    stack.lease("release", "low")
    until(lambda: stack.json("ls") == [], what="its end")


def test_one_whose_time_was_over_saves_and_goes_on_after_an_engine_restart(
    stack: Stack, engine: SecondEngine
) -> None:
    hook = "echo saved > $HOME/model; echo all is saved"
    stack.lease("up", "short", "--gpu", "1", "--for", "6s", "--on-suspend", hook, *SMALL, *SLEEP)
    until(lambda: stack.state("short") == "suspended", what="its time to be over")
    shown = stack.lease("show", "short").stdout
    assert "time over" in shown
    assert "lease resume short --for 4h" in shown
    assert "processes start anew (cuda-checkpoint: " in shown
    assert "command succeeded after" in stack.lease("events", "short").stdout
    until(lambda: stack.json("show", "short")["kept_bytes"], what="its measuring")
    assert "files are kept, and go in 9d" in stack.lease("extend", "short", "3d").stdout
    engine.kill()
    engine.start()
    stack.lease("resume", "short", "--for", "1h")
    until(lambda: stack.state("short") == "running", what="its going on")
    assert stack.lease("exec", "short", "--", "sh", "-c", "cat $HOME/model").stdout == "saved\n"
    assert stack.json("show", "short")["ends_at"]
    stack.lease("release", "short")
    until(lambda: stack.json("ls") == [], what="its end")
