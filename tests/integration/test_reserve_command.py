"""`lease reserve` against a real api: what is typed, what is printed, and that every hint is a command that works."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.support.api import Served, served, token
from tests.support.cluster import Cluster
from tests.support.terminal import run

Lease = Callable[..., CompletedProcess[str]]


@pytest.fixture
def api(database_url: str, tmp_path: Path) -> Iterator[Served]:
    with Cluster.opened(database_url, devices=4) as cluster, served(cluster, tmp_path) as made:
        yield made


@pytest.fixture
def lease(api: Served) -> Lease:
    """The command, as ada, who lives where it is five hours earlier."""
    secret = token(api.cluster, api.cluster.ada)

    def lease(*words: str) -> CompletedProcess[str]:
        return run(*words, LEASING_URL=api.url, LEASING_TOKEN=secret, TZ="EST5")

    return lease


def test_reserving_listing_and_cancelling(lease: Lease) -> None:
    nothing = lease("reserve")
    assert nothing.stdout.startswith("Nothing is reserved. Reserve: lease reserve add NAME --gpu 1 --from")

    here = datetime.now(UTC) - timedelta(hours=5)
    start = (here + timedelta(hours=2)).replace(second=0, microsecond=0)
    made = lease("reserve", "add", "review", "--gpu", "A100:2", "--from", f"{start:%H:%M}", "--for", "90m")
    assert made.returncode == 0, made.stderr
    first, *facts = made.stdout.splitlines()
    assert first == "review is reserved: GPU 0,1 of local"
    said = dict(line.strip().split("  ", 1) for line in facts)
    assert said["from"].strip().endswith(f"({start:%H:%M})")
    assert said["until"].strip().endswith(f"({start + timedelta(minutes=90):%H:%M})")
    assert said["use it"].strip() == "lease up --reservation review --gpu A100:2"
    assert said["give up"].strip() == "lease reserve cancel review"

    head, row = lease("reserve").stdout.splitlines()
    assert head.split() == ["NAME", "STATE", "GPU", "NODE", "FROM", "UNTIL", "OWNER", "NOTE"]
    assert row.split()[:4] == ["review", "booked", "A100:2", "local/0,1"]
    assert f"({start:%H:%M})" in row
    (one,) = json.loads(lease("reserve", "ls", "--json").stdout)["items"]
    assert datetime.fromisoformat(one["starts_at"]) == (start + timedelta(hours=5)).replace(tzinfo=UTC)

    assert (
        lease("reserve", "cancel", "review").stdout == "review is cancelled; anybody may have its devices.\n"
    )
    assert lease("reserve").stdout == nothing.stdout


def test_until_is_after_the_start(lease: Lease) -> None:
    made = lease("reserve", "add", "--from", "2099-01-01T22:00", "--until", "02:00", "--json")
    refusal = json.loads(made.stdout)
    assert made.returncode == 2
    assert "too far ahead: the limit is 30d" in refusal["detail"]
    start = (datetime.now(UTC) + timedelta(days=2)).strftime("%Y-%m-%dT22:00")
    one = json.loads(lease("reserve", "add", "--from", start, "--until", "02:00", "--json").stdout)
    begins, ends = (datetime.fromisoformat(one[key]) for key in ("starts_at", "ends_at"))
    assert (begins.astimezone(UTC).hour, ends - begins) == (3, timedelta(hours=4))


def test_a_refusal_says_when_it_would_work_by_a_command_that_does(lease: Lease) -> None:
    assert lease("reserve", "add", "--gpu", "4", "--for", "2h").returncode == 0
    refused = lease("reserve", "add", "late", "--gpu", "3", "--for", "1h")
    assert refused.returncode == 3
    assert "not free on any one node" in refused.stderr
    hint = shlex.split(refused.stderr.splitlines()[-1].strip())
    assert hint[:4] == ["lease", "reserve", "add", "late"]
    assert lease(*hint[1:]).returncode == 0
    assert [row.split()[0] for row in lease("reserve").stdout.splitlines()[1:]][-1] == "late"


def test_for_how_long_is_said_in_one_way(lease: Lease) -> None:
    for words in ((), ("--for", "1h", "--until", "18:00")):
        refused = lease("reserve", "add", *words)
        assert refused.returncode == 2
        assert "Add --for 4h, or --until 18:00." in refused.stderr


def test_who_has_devices_now_stands_below(api: Served, lease: Lease) -> None:
    api.cluster.run(name="train", gpu="2", ttl="3h")
    assert lease("reserve", "add", "review", "--gpu", "1", "--for", "1h").returncode == 0
    _, _, empty, head, row = lease("reserve").stdout.splitlines()
    assert (empty, head.split()) == ("", ["LEASE", "NODE", "UNTIL", "OWNER"])
    assert row.split()[:2] == ["train", "local/0,1"]
    assert "in 2h59m" in row
