"""Files out of a container, as the engine's own archive."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from docker.errors import DockerException
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
        self._connection = connection
        self._container = container
        self._opened = contextlib.ExitStack()
        try:
            client = self._opened.enter_context(connection.fresh())
            answer = client.get(
                f"{client.base_url}/v{client.api_version}/containers/{container}/archive",
                params={"path": path},
                stream=True,
                timeout=client.timeout,
            )
            if not answer.ok:
                raise refused(answer.text)
            self._stream = CancellableStream(answer.iter_content(CHUNK, decode_unicode=False), answer)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End it, whichever thread is waiting for more."""
        if hasattr(self, "_stream"):
            with contextlib.suppress(OSError, AttributeError, DockerException):
                self._stream.close()
        self._opened.close()
