"""A scheduler that is killed at one point, as hard as `kill -9` does it: nothing is flushed, released or said.

It is a process of its own, forked from a server that has loaded the scheduler's code once: most of what a new Python
would take is loading.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from typing import Any

import docker
import sqlalchemy as sa

from leasing.database import now
from leasing.drivers.docker import DockerDriver
from leasing.model import Lease
from leasing.settings.docker import DockerSettings
from leasing.settings.scheduler import SchedulerSettings
from scheduler.process import Scheduler
from tests.support.cluster import Cluster

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([__name__])
WITHIN_SECONDS = 60
TOOLS = "leasing-ssh-"
"""How the containers begin by which a scheduler looks at the tools that all leases see: it dies for none of them."""


def killed_around(cluster: Cluster, method: str, when: str, **settings: object) -> None:
    """A scheduler ran until just before, or just after, it called that method of the Engine API; afterwards its claims
    are as old as a successor would wait for. `settings` are of LEASING_*, in lower case; no sandboxes are made ready
    unless they say so, for a call of the engine that is for nobody's lease would be its last."""
    environment = {
        f"LEASING_{name.upper()}": str(value) for name, value in ({"warm_sandboxes": 0} | settings).items()
    }
    process = FORKS.Process(target=_main, args=(cluster.url, method, when, environment))
    process.start()
    process.join(WITHIN_SECONDS)
    lives = process.exitcode is None
    process.kill()
    process.join()
    assert not lives, f"it never called {method}"
    assert process.exitcode == -signal.SIGKILL
    process.close()
    engine = cluster.fleet.engine(cluster.node_id)
    for container in engine.containers(cluster.installation):
        if container.name.startswith(TOOLS):  # an orphan like any other, but of no call that is tried here
            engine.remove(container.id, network=None)
    with cluster.sessions.begin() as session:
        session.execute(sa.update(Lease).values(claim_until=now(session)))


def _main(url: str, method: str, when: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    original = getattr(docker.APIClient, method)

    def deadly(self: docker.APIClient, *arguments: Any, **options: Any) -> Any:
        if str(options.get("name", arguments[0])).startswith(TOOLS):
            return original(self, *arguments, **options)
        if when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        original(self, *arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)
        return None  # nobody is left to have it

    setattr(docker.APIClient, method, deadly)
    engine = DockerSettings()
    Scheduler(
        url,
        connect=lambda *_: DockerDriver("", engine),
        logins=lambda _: None,
        settings=SchedulerSettings(stop_grace_seconds=0),
        docker=engine,
    ).run(threading.Event())
