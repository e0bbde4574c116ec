"""The main job, as a newcomer does it: real processes, real Docker, the real command line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.support.images import BUSYBOX, ensure_busybox
from tests.support.stack import Stack, running, until

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(300)]
SMALL = ("--cpus", "0.1", "--memory", "128M")
SLEEP = ("--image", BUSYBOX, "--", "sleep", "600")


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    ensure_busybox()
    with running() as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_left(stack: Stack) -> Iterator[None]:
    """Each test gives back what it took, and the engine agrees."""
    yield
    for lease in stack.json("ls"):
        stack.lease("release", lease["name"])
    until(lambda: stack.json("ls") == [], what="every lease's end")
    until(lambda: stack.containers() == [], what="every container's end")


def test_a_newcomer_leases_calls_and_releases(stack: Stack) -> None:
    shown = stack.lease(
        "up", "demo", *SMALL, "--port", "8000", "--", "python3", "-m", "http.server", "8000"
    ).stdout
    assert "demo is running after" in shown
    assert f"{stack.gateway}/l/demo/" in shown

    token = stack.lease("token").stdout.strip()
    address = f"{stack.gateway}/l/demo/"
    answer = until(lambda: _ok(address, token), what="the endpoint's answer")
    assert "Directory listing" in answer.text
    refused = httpx.get(address)
    assert (refused.status_code, refused.json()["code"]) == (401, "not_signed_in")
    assert "demo" in stack.lease("ls").stdout
    assert len(stack.containers()) == 1

    assert "released" in stack.lease("release", "demo").stdout
    until(lambda: stack.state("demo") == "ended", what="the end")
    assert stack.containers() == []
    gone = until(
        lambda: (
            (one := httpx.get(address, headers={"Authorization": f"Bearer {token}"})).status_code == 404
            and one
        ),
        what="the gateway's knowing of it",
    )
    assert "released" in gone.json()["detail"]


def test_a_shell_inside_is_the_lease_s_own(stack: Stack) -> None:
    stack.lease("up", "inside", *SMALL, "--workspace", "kept")
    done = stack.lease(
        "exec", "inside", "--", "sh", "-c", "id -u; cat > /workspace/x; exit 7", check=False, text="hi"
    )
    assert (done.returncode, done.stdout) == (7, "1000\n")
    info = json.loads(stack.lease("exec", "inside", "--", "cat", "/run/lease/info.json").stdout)
    assert info["name"] == "inside"
    stack.lease("release", "inside")
    until(lambda: stack.state("inside") == "ended")
    stack.lease("up", "again", *SMALL, "--workspace", "kept")
    assert stack.lease("exec", "again", "--", "cat", "/workspace/x").stdout == "hi"


def test_what_runs_detached_is_activity_and_an_open_endpoint_is_not(stack: Stack) -> None:
    work = ("--image", BUSYBOX, "--", "sh", "-c", "while :; do :; done")
    stack.lease("up", "busy", "--cpus", "0.5", "--memory", "64M", "-d", *work)
    stack.lease("up", "still", *SMALL, "--port", "8000", *SLEEP)

    def says(name: str) -> dict[str, str]:
        idle = stack.json("show", name)["idle"] or {"signals": []}
        return {one["kind"]: one["state"] for one in idle["signals"]}

    until(lambda: says("busy").get("cpu") == "active", seconds=60, what="the detached work")
    assert stack.json("show", "busy")["idle"]["verdict"] == "active"
    still = {"gpu": "inapplicable", "gpu_memory": "inapplicable", "kernel": "inapplicable"} | dict.fromkeys(
        ("cpu", "disk", "network", "endpoint", "terminal", "keep"), "quiet"
    )
    until(lambda: says("still") == still, seconds=60, what="nothing at all")
    kept = stack.lease("keep", "still", "--while", "test -e /etc/passwd").stdout
    assert "is kept while `test -e /etc/passwd` succeeds" in kept
    assert stack.json("show", "still")["idle"]["reason"] == "kept by its owner"
    refused = stack.lease("keep", "still", "--while", "test -e /nowhere", check=False)
    assert refused.returncode == 2
    assert "did not succeed" in refused.stderr
    assert stack.json("show", "still")["keep"] is None


def test_a_command_that_ends_is_told_with_its_code_and_last_words(stack: Stack) -> None:
    stack.lease("up", "short", *SMALL, "-d", "--image", BUSYBOX, "--", "sh", "-c", "echo last words; exit 3")
    until(lambda: stack.state("short") == "ended", what="the end")
    facts = stack.json("show", "short")
    assert (facts["reason"], facts["exit_code"]) == ("failed", 3)
    assert "last words" in stack.lease("logs", "short").stdout
    kinds = [
        json.loads(line)["kind"] for line in stack.lease("events", "short", "--json").stdout.splitlines()
    ]
    assert kinds == [
        f"lease.{one}" for one in ("queued", "placed", "starting", "running", "stopping", "ended")
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("up", "Bad_Name"), 2, "lower-case letters"),
        (("up", "x", "--memory", "lots"), 2, "not a size"),
        (("up", "x", "--memory", "1M"), 2, "the least is 16M"),
        (("up", "x", "--for", "-1h"), 2, "not a duration"),
        (("up", "x", "--for", "9999d"), 2, "out of range"),
        (("up", "x", "--gpu", "many!"), 2, "not a GPU ask"),
        (("up", "x", "--cpus", "500"), 3, "the largest has"),
        (("up", "x", "--gpu", "4"), 3, "No node has a device that can be leased"),
        (("up", "x", "--env", "NVIDIA_VISIBLE_DEVICES=all"), 2, "platform's own"),
        (("show", "nosuch"), 5, "no lease 'nosuch'"),
        (("extend", "nosuch", "1h"), 5, "no lease"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(
    stack: Stack, arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = stack.lease(*arguments, check=False)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_the_same_name_twice_is_refused_with_the_way_out(stack: Stack) -> None:
    stack.lease("up", "twin", *SMALL, *SLEEP)
    done = stack.lease("up", "twin", *SMALL, check=False)
    assert done.returncode == 1
    assert "release or resume it: lease show twin" in done.stderr


def test_an_unknown_image_ends_the_lease_saying_so(stack: Stack) -> None:
    done = stack.lease("up", "noimage", *SMALL, "--image", "registry.invalid/x:1", check=False)
    assert done.returncode == 1
    assert "registry cannot be reached" in done.stderr


def test_another_user_s_lease_is_theirs(stack: Stack) -> None:
    stack.lease("up", "mine", *SMALL, "--port", "80", *SLEEP)
    link = stack.json("admin", "users", "create", "eve")["signin_link"]
    secret = link.partition("secret=")[2]
    token = httpx.post(f"{stack.url}/api/v1/signin", json={"secret": secret}).json()["secret"]
    again = httpx.post(f"{stack.url}/api/v1/signin", json={"secret": secret})
    assert again.status_code == 401
    eve = {"Authorization": f"Bearer {token}"}
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/logs"), ("GET", "/events"), ("GET", "/why")):
        assert httpx.request(method, f"{stack.url}/api/v1/leases/mine{path}", headers=eve).status_code == 403
    until(
        lambda: httpx.get(f"{stack.gateway}/l/mine/", headers=eve).status_code == 403,
        what="the gateway's knowing her",
    )
    assert httpx.get(f"{stack.url}/api/v1/users", headers=eve).status_code == 403
    assert stack.state("mine") == "running"


def test_a_killed_part_comes_back_and_leases_stay(stack: Stack) -> None:
    stack.lease("up", "steady", *SMALL, *SLEEP)
    before = stack.containers()
    for role in ("scheduler", "api", "gateway", "node"):
        old = stack.part(role)
        os.kill(old, signal.SIGKILL)
        until(partial(_another, stack, role, old), what=f"a new {role}")
    until(lambda: _ready(stack), what="readiness")
    assert stack.state("steady") == "running"
    assert stack.containers() == before
    stack.lease("up", "after", *SMALL, *SLEEP)


@pytest.mark.parametrize("role", ["api", "gateway", "scheduler", "node"])
def test_each_part_may_open_as_much_as_the_machine_lets_it(stack: Stack, role: str) -> None:
    limits = Path(f"/proc/{stack.part(role)}/limits").read_text()
    ((soft, hard),) = re.findall(r"Max open files +(\d+) +(\d+)", limits)
    assert soft == hard


def test_the_database_killed_comes_back_and_nothing_is_lost(stack: Stack) -> None:
    stack.lease("up", "kept", *SMALL, *SLEEP)
    pid_file = Path(stack.environment["LEASING_STATE_DIR"]) / "pg" / "data" / "postmaster.pid"
    os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)
    until(lambda: "the database died and is started again" in stack.log, what="a new database")
    until(lambda: _ready(stack), seconds=60, what="readiness")
    assert stack.state("kept") == "running"
    stack.lease("up", "later", *SMALL, *SLEEP)


def test_a_stop_leaves_leases_running_and_a_start_finds_them(stack: Stack) -> None:
    stack.lease("up", "patient", *SMALL, *SLEEP)
    before = stack.containers()
    assert stack.stop() == 0
    assert stack.containers() == before
    stack.start()
    assert stack.state("patient") == "running"
    assert stack.containers() == before


def test_a_container_killed_behind_our_back_ends_its_lease(stack: Stack) -> None:
    stack.lease("up", "victim", *SMALL, *SLEEP)
    (container,) = stack.containers()
    subprocess.run(["docker", "rm", "-f", container], check=True, capture_output=True)
    until(lambda: stack.state("victim") == "ended", what="the end")
    assert stack.json("show", "victim")["reason"] in ("lost", "failed")


def test_an_orphan_of_ours_goes_and_a_stranger_stays(stack: Stack) -> None:
    def run(name: str, installation: str) -> None:
        labels = ["--label", f"leasing.installation={installation}", "--label", "leasing.role=lease"]
        subprocess.run(
            ["docker", "run", "-d", "--name", name, *labels, BUSYBOX, "sleep", "600"],
            check=True,
            capture_output=True,
        )

    run("leasing-test-orphan", stack.installation())
    run("leasing-test-stranger", "ffffffff")
    try:
        until(lambda: stack.containers() == [], what="the orphan's end")
        listed = subprocess.check_output(["docker", "ps", "--format", "{{.Names}}"], text=True)
        assert "leasing-test-stranger" in listed
    finally:
        subprocess.run(
            ["docker", "rm", "-f", "leasing-test-stranger", "leasing-test-orphan"],
            capture_output=True,
            check=False,
        )


def test_metrics_need_a_token_and_know_the_lease(stack: Stack) -> None:
    stack.lease("up", "measured", *SMALL, *SLEEP)
    lease_id = stack.json("show", "measured")["id"]
    assert httpx.get(f"{stack.url}/metrics").status_code == 401
    token = (Path(stack.environment["LEASING_STATE_DIR"]) / "metrics.token").read_text().strip()
    headers = {"Authorization": f"Bearer {token}"}

    def sampled() -> str | None:
        text = httpx.get(f"{stack.url}/metrics", headers=headers).text
        return text if re.search(rf'leasing_lease_cpu_seconds_total{{lease_id="{lease_id}"}}', text) else None

    text = until(sampled, what="a sample of the lease")
    assert 'leasing_leases{state="running"} 1.0' in text
    node = httpx.get(f"http://127.0.0.1:{stack.environment['LEASING_NODE_PORT']}/metrics", headers=headers)
    assert "leasing_node_cpus" in node.text


def test_the_demo_runs_by_itself(stack: Stack) -> None:
    shown = stack.lease("demo").stdout
    for step in ("lease up", "with token", "200 from", "401, as it should be", "ended (released)", "gone"):
        assert step in shown


def test_backup_writes_what_restore_reads(stack: Stack) -> None:
    path = stack.root / "backup"
    stack.lease("admin", "backup", str(path))
    assert path.stat().st_size > 0
    refused = stack.lease("admin", "restore", str(path), check=False)
    assert refused.returncode == 1
    assert "running" in refused.stderr


def _ok(address: str, token: str) -> httpx.Response | None:
    answer = httpx.get(address, headers={"Authorization": f"Bearer {token}"})
    return answer if answer.status_code == 200 else None


def _ready(stack: Stack) -> bool:
    try:
        return httpx.get(f"{stack.url}/readyz").status_code == 200
    except httpx.HTTPError:
        return False


def _another(stack: Stack, role: str, old: int) -> bool:
    try:
        return stack.part(role) != old
    except (AssertionError, FileNotFoundError):
        return False
