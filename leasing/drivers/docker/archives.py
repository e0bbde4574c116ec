"""Files out of a container, as the engine's own archive."""

from __future__ import annotations

from collections.abc import Callable

import docker
from docker.types.daemon import CancellableStream

from leasing.drivers.docker.connection import Connection
from leasing.drivers.docker.errors import translated
from leasing.drivers.docker.streams import Chunks

CHUNK = 256 * 1024


class Archive(Chunks):
    """What is at a path of a container, as a tar; iterated once, nothing of it held in memory.

    `refused` makes an error of what the engine says where it does not begin.
    """

    def __init__(
        self,
        connection: Connection,
        container: str,
        path: str,
        refused: Callable[[str], Exception] = translated,
    ) -> None:
        def begin(client: docker.APIClient) -> CancellableStream[bytes]:
            answer = client.get(
                f"{client.base_url}/v{client.api_version}/containers/{container}/archive",
                params={"path": path},
                # the engine would compress it, at a seventh of the speed
                headers={"Accept-Encoding": "identity"},
                stream=True,
                timeout=client.timeout,
            )
            if not answer.ok:
                raise refused(answer.text)
            return CancellableStream(answer.iter_content(CHUNK, decode_unicode=False), answer)

        super().__init__(connection, begin)
