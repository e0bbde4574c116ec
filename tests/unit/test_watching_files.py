"""What monitoring ships as files: they name metrics that there are; compose.yaml has no secret and no open door."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are not worth a dependency of their own

from leasing.settings.core import CoreSettings
from monitoring.metrics import FAMILIES, Histogram
from tests.support import sources

MONITORING = sources.ROOT / "monitoring"
DASHBOARD = json.loads((MONITORING / "grafana/dashboards/leasing.json").read_text())
DATASOURCE = yaml.safe_load((MONITORING / "grafana/provisioning/datasources/prometheus.yml").read_text())
PROMETHEUS = MONITORING / "prometheus"
RULES = [
    rule
    for group in yaml.safe_load((PROMETHEUS / "rules/leasing.yml").read_text())["groups"]
    for rule in group["rules"]
]
CASES = [
    case
    for test in yaml.safe_load((PROMETHEUS / "rules_test.yml").read_text())["tests"]
    for case in test["alert_rule_test"]
]
COMPOSE = yaml.safe_load((sources.ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
NAMES = {family.name for family in FAMILIES} | {
    f"{family.name}_{part}"
    for family in FAMILIES
    if isinstance(family, Histogram)
    for part in ("bucket", "sum", "count")
}
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


@pytest.mark.parametrize("query", [*QUERIES, *(rule["expr"] for rule in RULES)])
def test_a_query_names_only_metrics_that_there_are(query: str) -> None:
    named = set(re.findall(r"\bleasing_\w+", query))
    assert named <= NAMES
    assert named or query.startswith("up{")


def test_the_dashboard_asks_the_datasource_that_is_provisioned() -> None:
    provisioned = {source["uid"] for source in DATASOURCE["datasources"]}
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == provisioned
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_panels_do_not_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_to_do_and_is_tested_before_its_time_and_after(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"page", "warn", "info"}
    assert rule["annotations"].keys() == {"summary", "action"}
    fires = [bool(case.get("exp_alerts")) for case in CASES if case["alertname"] == rule["alert"]]
    assert sorted(set(fires)) == [False, True]


@pytest.mark.parametrize(
    "check", [["check", "config", "--syntax-only", "prometheus.yml"], ["test", "rules", "rules_test.yml"]]
)
def test_prometheus_itself_takes_the_files(check: list[str]) -> None:
    done = subprocess.run(["promtool", *check], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_says_whether_it_is_well_and_comes_back(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
    assert SERVICES[name]["restart"] == "unless-stopped"
    for other in SERVICES[name].get("depends_on", ()):
        assert other in SERVICES


def test_no_password_has_a_default() -> None:
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if "PASSWORD" in key:
                assert key.endswith("_FILE"), f"{name} has a password in its environment: {key}"
                assert value.removeprefix("/run/secrets/") in service["secrets"]
    assert SERVICES["leasing"]["environment"]["LEASING_DATABASE_URL"].startswith("${LEASING_DATABASE_URL:?")
    secrets = [".env", *(one["file"] for one in COMPOSE["secrets"].values())]
    ignored = subprocess.run(
        ["git", "check-ignore", *secrets], cwd=sources.ROOT, check=False, capture_output=True, text=True
    )
    assert ignored.stdout.split() == secrets, "a secret could be committed"


def test_nothing_listens_beyond_the_machine() -> None:
    for service in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert CoreSettings().loopback
    assert "--web.listen-address=127.0.0.1:9090" in SERVICES["prometheus"]["command"]
    assert SERVICES["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"


def test_parts_meet_where_each_expects_the_other() -> None:
    port = SERVICES["postgres"]["ports"][0].rpartition(":")[0]
    user, database = (SERVICES["postgres"]["environment"][f"POSTGRES_{one}"] for one in ("USER", "DB"))
    assert f"postgresql://{user}:$(cat secrets/postgres)@{port}/{database}" in _top()
    assert DATASOURCE["datasources"][0]["url"] == "http://127.0.0.1:9090"
    settings = CoreSettings()
    assert f"127.0.0.1:{settings.port}/readyz" in SERVICES["leasing"]["healthcheck"]["test"][-1]
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    assert config["scrape_configs"][0]["static_configs"][0]["targets"] == [f"127.0.0.1:{settings.port}"]
    token = f"./secrets/metrics-token:/var/lib/leasing/{settings.metrics_token_file().name}:ro"
    assert token in SERVICES["leasing"]["volumes"]


def test_the_image_is_made_of_what_the_build_is_sent() -> None:
    sent = {line[1:] for line in (sources.ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    assert sent >= set(sources.PACKAGES)
    dockerfile = (sources.ROOT / SERVICES["leasing"]["build"]["dockerfile"]).read_text()
    copied = {
        name for line in re.findall(r"^COPY (.+) \S+$", dockerfile, re.MULTILINE) for name in line.split()
    }
    assert copied - {"."} <= sent


def _top() -> str:
    """The comment at the top of compose.yaml."""
    return (sources.ROOT / "compose.yaml").read_text().partition("name:")[0]
