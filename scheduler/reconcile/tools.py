"""Stage: each engine has the image of the programs by which people come in; leases are made without them until then."""

from __future__ import annotations

import logging
from uuid import UUID

from images import tools
from leasing.drivers.protocol import Lifecycle
from leasing.errors import DriverError, HostError

log = logging.getLogger(__name__)


def run_once(engine: Lifecycle, node_id: UUID) -> None:
    """Build it where it is absent, which takes half a minute. Nothing else waits for that."""
    if engine.find_image(tools.reference()) is not None:
        return
    try:
        tools.ensure(engine, lambda _: None)
    except (DriverError, HostError) as error:
        log.warning("no way in by SSH node=%s error=%s", node_id, error)
        return
    log.info("tools built node=%s image=%s", node_id, tools.reference())
