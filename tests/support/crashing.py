"""A scheduler that is killed at one point: `python -m tests.support.crashing DATABASE METHOD before|after`.

METHOD is the call of the Engine API around which it dies, as hard as `kill -9` does it: nothing is flushed, released
or said.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

import docker

from leasing.drivers.docker import DockerDriver
from leasing.settings.docker import DockerSettings
from leasing.settings.scheduler import SchedulerSettings
from scheduler.process import Scheduler


def main(url: str, method: str, when: str) -> None:
    original = getattr(docker.APIClient, method)

    def deadly(self: docker.APIClient, *arguments: Any, **options: Any) -> Any:
        if when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        original(self, *arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(docker.APIClient, method, deadly)
    settings = DockerSettings()
    Scheduler(
        url,
        connect=lambda *_: DockerDriver("", settings),
        logins=lambda _: None,
        settings=SchedulerSettings(stop_grace_seconds=1),
        docker=settings,
    ).run(threading.Event())


if __name__ == "__main__":
    main(*sys.argv[1:])
