"""The engines of all nodes, each connected once and shared by every worker."""

from __future__ import annotations

import threading
from collections.abc import Callable
from uuid import UUID

import sqlalchemy as sa

from leasing.database import Sessions
from leasing.drivers.protocol import Lifecycle
from leasing.errors import EngineDown
from leasing.model import Node

Connect = Callable[[str, str], Lifecycle]
"""Driver name and address → an engine. Connecting is lazy: the first call finds out whether anything answers."""


class Fleet:
    """Node id → its engine. Thread-safe."""

    def __init__(self, sessions: Sessions, connect: Connect) -> None:
        self._sessions = sessions
        self._connect = connect
        self._lock = threading.Lock()
        self._engines: dict[UUID, tuple[str, str, Lifecycle]] = {}

    def engine(self, node_id: UUID) -> Lifecycle:
        """The node's engine. Raises `EngineDown` for a node that has left."""
        with self._sessions() as session:
            node = session.execute(
                sa.select(Node.driver, Node.address).where(Node.id == node_id)
            ).one_or_none()
        if node is None:
            raise EngineDown(f"Node {node_id} has left.")
        return self.connected(node_id, *node)

    def connected(self, node_id: UUID, driver: str, address: str) -> Lifecycle:
        """The engine there, for who has just read how the node is reached."""
        with self._lock:
            known = self._engines.get(node_id)
            if known is not None and known[:2] == (driver, address):
                return known[2]
            engine = self._connect(driver, address)
            self._engines[node_id] = (driver, address, engine)
        if known is not None:
            known[2].close()  # which may wait for whoever is at it
        return engine

    def close(self) -> None:
        """Let go of every engine; unblocks whoever follows events."""
        with self._lock:
            for _, _, engine in self._engines.values():
                engine.close()
            self._engines.clear()
