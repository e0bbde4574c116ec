"""Connections to one engine."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import docker

from leasing.drivers.docker.errors import engine_errors

POOL = 64
"""Connections kept: no call queues behind another's."""


class Connection:
    """One engine's API client, made at first use, shared by threads; and fresh ones for proofs and long streams."""

    def __init__(self, address: str, timeout_seconds: int) -> None:
        self.address = address or os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        self._timeout = timeout_seconds
        self._lock = threading.Lock()
        self._client: docker.APIClient | None = None

    @contextmanager
    def call(self, *, pulling: bool = False) -> Iterator[docker.APIClient]:
        """The shared client, its errors translated; a registry's refusals are told as such only while `pulling`."""
        with engine_errors(self.address, pulling=pulling):
            yield self._client or self._first()

    @contextmanager
    def fresh(self, timeout_seconds: int | None = None) -> Iterator[docker.APIClient]:
        """A client with connections of its own. That it answers proves that the engine accepts connections now."""
        with engine_errors(self.address):
            client = self._connect(timeout_seconds or self._timeout)
            try:
                yield client
            finally:
                client.close()

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _first(self) -> docker.APIClient:
        made = self._connect(self._timeout)  # not under the lock: an engine may take minutes not to answer
        with self._lock:
            first = self._client = self._client or made
        if first is not made:
            made.close()
        return first

    def _connect(self, timeout: int) -> docker.APIClient:
        # "auto" asks the engine for its version once; a fixed one would fail on older or newer engines
        return docker.APIClient(
            base_url=self.address,
            version="auto",
            timeout=timeout,
            num_pools=4,
            max_pool_size=POOL,
        )
