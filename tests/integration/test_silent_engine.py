"""An engine that takes connections and says nothing: who asks it waits, and nobody waits for them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from leasing.drivers.docker import DockerDriver
from leasing.errors import EngineDown
from leasing.settings.docker import DockerSettings
from tests.support.stack import until


@pytest.fixture
def silent() -> Iterator[list[socket.socket]]:
    """What it has accepted; its listening socket first."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening, ThreadPoolExecutor(1) as pool:
        taken = [listening]

        def accept() -> None:
            while True:
                try:
                    taken.append(listening.accept()[0])
                except OSError:
                    return

        pool.submit(accept)
        yield taken
        listening.shutdown(socket.SHUT_RDWR)
        for one in taken[1:]:
            one.close()


def test_callers_wait_side_by_side_and_a_driver_is_closed_meanwhile(silent: list[socket.socket]) -> None:
    host, port = silent[0].getsockname()
    driver = DockerDriver(f"tcp://{host}:{port}", DockerSettings(timeout_seconds=60))
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(driver.inspect, "x") for _ in range(3)]
        try:
            until(lambda: len(silent) == 4, what="all three at its door", seconds=20)
            pool.submit(driver.close).result(20)
        finally:
            for one in silent[1:]:
                one.shutdown(socket.SHUT_RDWR)
        for call in asked:
            with pytest.raises(EngineDown):
                call.result(20)
