"""A real Prometheus against a live platform: every query of the dashboard and every alert's condition."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are not worth a dependency of their own

from tests.support import gpus
from tests.support.engines import SecondEngine
from tests.support.nvml import FakeNvml
from tests.support.stack import Stack, free_port, running, until

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("second-engine"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may start an engine that hands out devices"),
]
MONITORING = Path(__file__).parent.parent.parent / "monitoring"
DASHBOARD = json.loads((MONITORING / "grafana/dashboards/leasing.json").read_text())
QUERIES = sorted({target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]})
RULES = yaml.safe_load((MONITORING / "prometheus/rules/leasing.yml").read_text())
ALERTS = [rule["expr"] for group in RULES["groups"] for rule in group["rules"]]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("prometheus")
    nvml = FakeNvml(folder / "nvml")
    with SecondEngine(nvml=nvml) as engine, running(engine.environment | nvml.environment()) as stack:
        driver = engine.driver()
        gpus.ensure_image(driver)
        driver.close()
        until(
            lambda: len(stack.json("admin", "devices", "ls")["items"]) == len(nvml.uuids), what="the devices"
        )
        small = ("--gpu", "1", "--cpus", "0.1", "--memory", "64M", "--port", "8000", "--image", gpus.IMAGE)
        stack.lease("up", "watched", *small, "--", "sh", "-c", "while :; do :; done")
        nvml.change(stack.json("show", "watched")["devices"][0]["uuid"], util=80)
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
            until(lambda: _ready(url), seconds=60, what="Prometheus")
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


def _ready(url: str) -> bool:
    """It listens before it can answer, and then says so in plain text."""
    try:
        return httpx.get(f"{url}/-/ready").status_code == 200
    except httpx.TransportError:
        return False


def _data(url: str, query: str) -> list[Any]:
    body = httpx.get(f"{url}/api/v1/query", params={"query": query}).json()
    if body["status"] != "success":
        return []
    found: list[Any] = body["data"]["result"]
    return found


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_of_the_dashboard_has_data(prometheus: str, query: str) -> None:
    assert until(lambda: _data(prometheus, query), what="data")


@pytest.mark.parametrize("query", ALERTS)
def test_every_alert_s_condition_is_understood(prometheus: str, query: str) -> None:
    answer = httpx.get(f"{prometheus}/api/v1/query", params={"query": query})
    assert answer.json()["status"] == "success"


def test_both_jobs_are_scraped(prometheus: str) -> None:
    both = {"leasing": "1", "leasing-node": "1"}
    until(
        lambda: {one["metric"]["job"]: one["value"][1] for one in _data(prometheus, "up")} == both,
        what="a scrape of both",
    )


def test_a_device_s_load_is_seen_under_its_lease_and_owner(prometheus: str) -> None:
    query = (
        "leasing_lease_gpu_utilization_ratio * on (lease_id) group_left (name, owner) leasing_lease_info"
        ' * on (lease_id) group_left (uuid) leasing_lease_gpu_info{uuid!=""}'
    )
    found = until(
        lambda: [one for one in _data(prometheus, query) if one["value"][1] == "0.8"], what="the load"
    )
    assert [(one["metric"]["name"], one["metric"]["owner"]) for one in found] == [("watched", "admin")]
    query = "leasing_gpu_utilization_ratio * on (uuid) group_left (lease_id) leasing_lease_gpu_info"
    until(lambda: [one["value"][1] for one in _data(prometheus, query)] == ["0.8"], what="the device's load")
