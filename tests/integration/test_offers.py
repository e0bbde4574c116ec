"""What is free, and when the rest frees."""

from __future__ import annotations

import sqlalchemy as sa

from leasing.database import now
from leasing.model import Device
from leasing.service import offers
from monitoring import collector
from tests.support.cluster import Cluster

A100 = "NVIDIA A100-SXM4-40GB"


def test_a_device_frees_when_the_last_of_those_that_have_a_part_of_it_must_leave(database_url: str) -> None:
    with Cluster.opened(database_url, devices=5) as cluster:
        soon, late, two = (
            cluster.run(gpu="0.5", ttl="1h"),
            cluster.run(gpu="0.5", ttl="3h"),
            cluster.run(gpu="2", ttl="2h"),
        )
        placed = cluster.ask(gpu="1", ttl="4h")
        cluster.plan()
        with cluster.sessions() as session:
            moment = now(session)
            (offer,) = offers.offers(session, now=moment).items
        assert offer.devices_free == {A100: 1}
        told = [(one.at, one.model, one.count) for one in offer.frees]
        assert told[:2] == [(two.ends_at, A100, 2), (late.ends_at, A100, 1)]
        assert [(at - moment).total_seconds() for at, *_ in told[2:]] == [4 * 3600], "from when it is placed"
        assert soon.ends_at not in [at for at, *_ in told]
        with cluster.sessions.begin() as session:
            session.execute(sa.update(Device).values(intent="cordoned"))
            assert offers.offers(session, now=moment).items[0].frees == [], "cordoned ones do not come free"
        cluster.release(placed.id)


def test_the_error_of_forecasts_is_counted_for_prometheus(database_url: str) -> None:
    with Cluster.opened(database_url, devices=1) as cluster:
        running = cluster.run(gpu="1", ttl="30m")
        cluster.ask(gpu="1")
        cluster.plan()
        with cluster.sessions() as session:
            assert "leasing_forecast_error_seconds_count 0.0" in collector.render(session).decode()
        cluster.release(running.id)
        cluster.work()
        cluster.plan()
        with cluster.sessions() as session:
            text = collector.render(session).decode()
        assert 'leasing_forecast_error_seconds_bucket{le="900.0"} 0.0' in text
        assert 'leasing_forecast_error_seconds_bucket{le="3600.0"} 1.0' in text
