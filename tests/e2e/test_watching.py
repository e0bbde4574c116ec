"""A real Prometheus against a live platform: every query of the dashboard and every alert's condition."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are not worth a dependency of their own

from tests.support.images import BUSYBOX, ensure_busybox
from tests.support.nvml import FakeNvml
from tests.support.stack import Stack, free_port, running, until

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(300)]
MONITORING = Path(__file__).parent.parent.parent / "monitoring"
DASHBOARD = json.loads((MONITORING / "grafana/dashboards/leasing.json").read_text())
QUERIES = sorted({target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]})
RULES = yaml.safe_load((MONITORING / "prometheus/rules/leasing.yml").read_text())
ALERTS = [rule["expr"] for group in RULES["groups"] for rule in group["rules"]]
# Need a lease that holds a device, and so an engine that can hand devices to containers.
NEEDS_DEVICE = [query for query in QUERIES if "leasing_lease_gpu_" in query]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    ensure_busybox()
    folder = tmp_path_factory.mktemp("prometheus")
    with running(FakeNvml(folder / "nvml").environment()) as stack:
        arguments = ("--cpus", "0.1", "--memory", "64M", "--port", "8000", "--image", BUSYBOX)
        stack.lease("up", "watched", *arguments, "--", "sh", "-c", "while :; do :; done")
        stack.lease("token")
        address = f"127.0.0.1:{free_port()}"
        config = _config(stack)
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        process = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address={address}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            url = f"http://{address}"
            token = stack.lease("token").stdout.strip()
            httpx.get(f"{stack.gateway}/l/watched/", headers={"Authorization": f"Bearer {token}"})
            until(
                lambda: _data(url, "leasing_lease_cpu_utilization_cores"),
                seconds=60,
                what="a sample of the lease",
            )
            until(
                lambda: _data(url, "rate(leasing_gateway_requests_total[1m])"),
                seconds=60,
                what="endpoint counts",
            )
            yield url
        finally:
            process.terminate()
            process.wait(20)


def _config(stack: Stack) -> dict[str, Any]:
    """The one we ship, at this platform's addresses and faster."""
    text = (MONITORING / "prometheus/prometheus.yml").read_text()
    text = text.replace("127.0.0.1:8080", stack.url.removeprefix("http://"))
    text = text.replace(
        "/run/secrets/metrics-token", f"{stack.environment['LEASING_STATE_DIR']}/metrics.token"
    )
    config: dict[str, Any] = yaml.safe_load(text)
    config["global"]["scrape_interval"] = "1s"
    config["rule_files"] = []
    for job in config["scrape_configs"]:
        for discovery in job.get("http_sd_configs", ()):
            discovery["refresh_interval"] = "2s"
    return config


def _data(url: str, query: str) -> list[Any]:
    try:
        answer = httpx.get(f"{url}/api/v1/query", params={"query": query})
    except httpx.TransportError:
        return []
    body = answer.json()
    if body["status"] != "success":
        return []
    found: list[Any] = body["data"]["result"]
    return found


@pytest.mark.parametrize("query", [one for one in QUERIES if one not in NEEDS_DEVICE])
def test_every_query_of_the_dashboard_has_data(prometheus: str, query: str) -> None:
    assert until(lambda: _data(prometheus, query), what="data")


@pytest.mark.parametrize("query", [*NEEDS_DEVICE, *ALERTS])
def test_every_other_query_is_understood(prometheus: str, query: str) -> None:
    answer = httpx.get(f"{prometheus}/api/v1/query", params={"query": query})
    assert answer.json()["status"] == "success"


def test_both_jobs_are_scraped(prometheus: str) -> None:
    assert {one["metric"]["job"]: one["value"][1] for one in _data(prometheus, "up")} == {
        "leasing": "1",
        "leasing-node": "1",
    }


def test_the_rules_hold_on_made_up_series() -> None:
    for command in (["check", "rules", "rules/leasing.yml"], ["test", "rules", "rules_test.yml"]):
        done = subprocess.run(
            ["promtool", *command], cwd=MONITORING / "prometheus", capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
