"""Docker Engine, through its own API (socket, TCP with mutual TLS, or SSH). The only package that imports `docker`."""

from __future__ import annotations

from leasing.drivers.docker.driver import DockerDriver

__all__ = ["DockerDriver"]
