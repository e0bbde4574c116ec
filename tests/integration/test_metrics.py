"""The platform's metrics from rows, a node's from its sample: every family that is named, and nothing made up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from api.app import create_app
from api.gateway.traffic import Counters, write_times
from leasing.database import create_engine, now, sessions
from leasing.model import Device, DeviceUsage, Node, Run, RunSample, SignalKind, Traffic
from leasing.schema.report import NodeReport
from leasing.service import signals
from leasing.settings.core import CoreSettings
from leasing.settings.limits import LimitSettings
from monitoring import collector, exposition
from monitoring.metrics import FAMILIES, Counter, Source
from scheduler.reconcile.verdicts import Verdicts
from tests.support.cluster import Cluster
from tests.support.stack import free_port

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(text: bytes) -> tuple[Series, set[str]]:
    """Every sample by its name and labels, and the families' names as Prometheus stores them."""
    series: Series = {}
    names: set[str] = set()
    for family in text_string_to_metric_families(text.decode()):
        names.add(f"{family.name}_total" if family.type == "counter" else family.name)
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in series, f"twice: {key}"
            series[key] = sample.value
    return series, names


def value(series: Series, metric: str, **labels: str) -> float | None:
    """The one series with these labels among its own."""
    found = [one for (name, own), one in series.items() if name == metric and own >= labels.items()]
    assert len(found) <= 1, f"{metric} is not one series: {found}"
    return found[0] if found else None


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    with Cluster.opened(database_url, devices=3) as made:
        yield made


def scrape(cluster: Cluster) -> Series:
    with cluster.sessions() as session:
        return parsed(collector.render(session))[0]


def test_every_family_of_the_platform_is_there_and_no_other(cluster: Cluster) -> None:
    with cluster.sessions() as session:
        _, names = parsed(collector.render(session))
    assert names == {family.name for family in FAMILIES if family.source is Source.PLATFORM}


def test_how_long_calls_take_adds_up_over_gateways_and_restarts(cluster: Cluster) -> None:
    for calls in ((0.004, 0.2), (0.2, 0.3, 100.0)):
        counters = Counters()
        for seconds in calls:
            counters.took(seconds)
        write_times(cluster.sessions, counters.take_times())
        assert counters.take_times() == {}
    series, name = scrape(cluster), "leasing_gateway_request_seconds"
    assert [value(series, f"{name}_bucket", le=le) for le in ("0.005", "0.25", "0.5", "60.0", "+Inf")] == [
        1,
        3,
        4,
        4,
        5,
    ]
    assert value(series, f"{name}_count") == 5
    assert value(series, f"{name}_sum") == pytest.approx(100.704)


def test_what_a_lease_holds_and_uses(cluster: Cluster) -> None:
    lease = cluster.run(gpu="2", name="train")
    with cluster.sessions.begin() as session:
        moment = now(session)
        run = session.execute(sa.select(Run)).scalar_one()
        session.add(
            RunSample(
                run_id=run.id, at=moment, cpu_seconds_total=12.5, cpu_cores=0.5, memory_working_set_bytes=1000,
                gpu_utilization_ratio=None, gpu_memory_used_bytes=2000, gpu_used_seconds_total=7.5,
            )
        )  # fmt: skip
        session.add(Traffic(lease_id=lease.id, requests_total=3, bytes_in_total=10, bytes_out_total=20))
    series, key = scrape(cluster), str(lease.id)
    assert value(series, "leasing_lease_info", lease_id=key, name="train", owner="ada", state="running") == 1
    assert value(series, "leasing_leases", state="running") == 1
    assert value(series, "leasing_lease_cpu_seconds_total", lease_id=key) == 12.5
    assert value(series, "leasing_lease_cpu_utilization_cores", lease_id=key) == 0.5
    assert value(series, "leasing_lease_gpu_memory_used_bytes", lease_id=key) == 2000
    assert value(series, "leasing_lease_gpu_utilization_ratio", lease_id=key) is None, "not measured is not 0"
    assert value(series, "leasing_lease_gpu_seconds_total", lease_id=key, kind="used") == 7.5
    assert value(series, "leasing_gateway_bytes_total", lease_id=key, direction="out") == 20
    assert lease.ends_at is not None
    assert value(series, "leasing_lease_expires_timestamp_seconds") == pytest.approx(
        lease.ends_at.timestamp()
    )
    assert sum(one for (name, _), one in series.items() if name == "leasing_lease_gpu_info") == 2
    assert value(series, "leasing_queue_wait_seconds_count") == 1
    assert value(series, "leasing_lease_start_seconds_count", phase="start") == 1
    assert value(series, "leasing_node_cpus_leased", node="local") == 1
    states = [
        dict(labels)["state"]
        for (name, labels), one in series.items()
        if name == "leasing_gpu_state" and one == 1
    ]
    assert sorted(states) == ["free", "leased", "leased"]


def test_a_sample_of_long_ago_is_not_shown_as_if_it_were_now(cluster: Cluster) -> None:
    cluster.run()
    with cluster.sessions.begin() as session:
        run = session.execute(sa.select(Run)).scalar_one()
        old = now(session) - timedelta(minutes=1)
        session.add(RunSample(run_id=run.id, at=old, cpu_seconds_total=1, memory_working_set_bytes=1))
    assert value(scrape(cluster), "leasing_lease_memory_working_set_bytes") is None


def test_idle_time_is_none_while_it_is_unknown(cluster: Cluster) -> None:
    lease = cluster.run(idle_timeout="30m")
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Run).values(started_at=Run.started_at - timedelta(hours=1)))
    Verdicts(cluster.sessions).run_once()
    assert value(scrape(cluster), "leasing_lease_idle_seconds") is None
    with cluster.sessions.begin() as session:
        busy = signals.Observation(lease.id, SignalKind.CPU, 2.0)
        signals.observe(session, [busy], now=now(session))
    Verdicts(cluster.sessions).run_once()
    assert value(scrape(cluster), "leasing_lease_idle_seconds") == 0


def test_a_device_is_not_well_while_it_is_lost_or_gone_from_under_its_lease(cluster: Cluster) -> None:
    cluster.run(gpu="1")
    with cluster.sessions.begin() as session:
        held, free, lost = session.execute(
            sa.select(Device).join(DeviceUsage).order_by(DeviceUsage.share_used.desc(), Device.index)
        ).scalars()
        held.health = free.health = "retired"
        lost.health = "lost"
    series = scrape(cluster)
    assert value(series, "leasing_gpu_healthy", uuid=held.uuid) == 0
    assert value(series, "leasing_gpu_healthy", uuid=lost.uuid) == 0
    assert value(series, "leasing_gpu_healthy", uuid=free.uuid) is None


def test_the_parent_of_instances_counts_through_them(cluster: Cluster) -> None:
    with cluster.sessions.begin() as session:
        parent = session.execute(sa.select(Device).limit(1)).scalar_one()
        parent.mig_enabled = True
    series = scrape(cluster)
    assert value(series, "leasing_gpu_state", uuid=parent.uuid, state="out") is None
    assert value(series, "leasing_gpu_healthy", uuid=parent.uuid) == 1


def test_what_is_known_of_a_node(cluster: Cluster) -> None:
    with cluster.sessions.begin() as session:
        node = session.execute(sa.select(Node)).scalar_one()
        node.engine, node.sampler_seen_at = {"disk_free_bytes": 5_000}, now(session)
    series = scrape(cluster)
    assert value(series, "leasing_node_disk_free_bytes", node="local") == 5_000
    assert value(series, "leasing_node_ready", node="local") == 1
    assert value(series, "leasing_node_report_timestamp_seconds", node="local") is not None


def counters(series: Series) -> Iterable[tuple[tuple[str, frozenset[tuple[str, str]]], float]]:
    """Those that have no lease in their labels, and so never go away."""
    names = {family.name for family in FAMILIES if isinstance(family, Counter)}
    return ((key, one) for key, one in series.items() if key[0] in names and "lease_id" not in dict(key[1]))


def test_counters_only_grow_when_leases_end(cluster: Cluster) -> None:
    lease = cluster.run(gpu="1")
    before = scrape(cluster)
    cluster.release(lease.id)
    cluster.work()
    after = scrape(cluster)
    assert value(after, "leasing_lease_transitions_total", to="ended", reason="released") == 1
    assert all(after[key] >= one for key, one in counters(before))
    assert value(after, "leasing_lease_gpu_seconds_total") is None, "an ended lease's series go away"


def test_a_database_that_is_away_is_said_not_raised(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/none"
    engine = create_engine(url, "test")
    settings = CoreSettings(state_dir=tmp_path)
    settings.metrics_token_file().write_text("watching\n")
    app = create_app(
        settings=settings,
        limits=LimitSettings(),
        sessions=sessions(engine),
        url=url,
        connect=_nothing,
        metrics=collector.render,
        catalogue=[],
    )
    answer = TestClient(app).get("/metrics", headers={"Authorization": "Bearer watching"})
    assert answer.status_code == 200
    series, names = parsed(answer.content)
    assert value(series, "leasing_database_up") == 0
    assert names == {"leasing_build_info", "leasing_database_up"}
    engine.dispose()


def _nothing(driver: str, address: str) -> NoReturn:
    raise AssertionError(f"a scrape asked an engine: {driver} {address}")


def test_every_family_of_a_node_is_there_and_what_cannot_be_measured_is_not() -> None:
    machine = {"sequence": 1, "boot_id": "b", "hostname": "h", "cpus": 8, "memory_bytes": 1000}
    gpu = {"uuid": "GPU-1", "index": 0, "model": "A100", "memory_bytes": 50, "health": "ok"}
    measured = {
        "utilization_ratio": 0.5,
        "memory_used_bytes": 7,
        "power_watts": 60.5,
        "temperature_celsius": 30,
    }
    whole = NodeReport.model_validate(
        machine | {"cpu_utilization_ratio": 0.25, "memory_used_bytes": 10, "devices": [gpu | measured]}
    )
    series, names = parsed(generate_latest(exposition.registry("one", lambda: whole)))
    assert names == {family.name for family in FAMILIES if family.source is Source.NODE}
    assert value(series, "leasing_gpu_power_watts", uuid="GPU-1", node="one") == 60.5

    blind = NodeReport.model_validate(machine | {"devices": [gpu]})
    series, _ = parsed(generate_latest(exposition.registry("one", lambda: blind)))
    assert {name for name, _ in series} == {
        "leasing_node_cpus",
        "leasing_node_memory_total_bytes",
        "leasing_gpu_memory_total_bytes",
    }
    assert parsed(generate_latest(exposition.registry("one", lambda: None))) == ({}, set())
