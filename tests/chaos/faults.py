"""What goes wrong, by kind: each does its damage at once, and hands back what ends it.

Choices are made from numbers drawn beforehand, so that the same seed makes the same choices wherever the same things
are there to choose from.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import docker
import psycopg
import requests

from tests.chaos.world import NODES, Place, World

Heal = Callable[[], None]
Inflict = Callable[[World, float], Heal]


def nothing() -> None:
    """There is nothing to mend: who was killed is started again at once."""


@dataclass(frozen=True)
class Fault:
    kind: str
    inflict: Inflict
    weight: float = 1.0
    lasts: int = 0
    """Steps until it is mended, at most."""


def _part(name: str, *, lasts: bool = False) -> Inflict:
    def inflict(world: World, _: float) -> Heal:
        part = world.parts.get(name)
        if part is not None:
            part.kill()
        if not lasts:
            return nothing
        world.held_down.add(name)
        return lambda: world.held_down.discard(name)

    return inflict


def _freeze(name: str) -> Inflict:
    """It does nothing for a while, and then goes on as if nothing had been: its claims are others' by then."""

    def inflict(world: World, _: float) -> Heal:
        part = world.parts.get(name)
        if part is None:
            return nothing
        part.signal(signal.SIGSTOP)
        world.frozen.add(name)

        def heal() -> None:
            part.signal(signal.SIGCONT)
            world.frozen.discard(name)

        return heal

    return inflict


def _postgres(how: str) -> Inflict:
    def inflict(world: World, pick: float) -> Heal:
        pid = world.postgres.pid
        if pid is None:
            return nothing
        family = _children(pid)
        one = family[int(pick * len(family)) :][:1]
        if how == "backend":
            _end(one, signal.SIGTERM)
        elif how == "crash":  # one that dies hard takes all others with it, and PostgreSQL recovers by itself
            _end(one, signal.SIGKILL)
        else:
            _end([pid, *(family if how == "whole" else ())], signal.SIGKILL)
            world.postgres.wait(10)
        return nothing

    return inflict


def _end(processes: Iterable[int], how: signal.Signals) -> None:
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, how)


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:  # it has just died by itself
        return []


def _engine(name: str, how: str) -> Inflict:
    def inflict(world: World, _: float) -> Heal:
        engine = world.places[name].engine
        pid = engine.pid
        if pid is None or f"engine-{name}" in world.frozen:
            return nothing
        if how == "freeze":
            os.kill(pid, signal.SIGSTOP)
            world.frozen.add(f"engine-{name}")

            def heal() -> None:
                _end([pid], signal.SIGCONT)
                world.frozen.discard(f"engine-{name}")

            return heal
        (engine.kill if how == "kill" else engine.stop)()
        return nothing

    return inflict


def _container(how: str) -> Inflict:
    """To one of the platform's containers, behind its back."""

    def inflict(world: World, pick: float) -> Heal:
        place = world.places[NODES[int(pick * 1000) % 2]]
        if not world.answers(place.name):
            return nothing
        with suppress(requests.RequestException, docker.errors.DockerException):
            client = docker.APIClient(base_url=place.engine.address, timeout=3)
            try:
                own = {"label": f"leasing.installation={world.installation}"}
                ids = sorted(one["Id"] for one in client.containers(filters=own))
                if ids:
                    return _harm(client, place, ids[int(pick * len(ids))], how)
            finally:
                client.close()
        return nothing

    return inflict


def _harm(client: docker.APIClient, place: Place, container: str, how: str) -> Heal:
    match how:
        case "kill":
            client.kill(container)
        case "stop":
            client.stop(container, timeout=0)
        case "remove":
            client.remove_container(container, force=True, v=True)
        case "pause":
            client.pause(container)
            return lambda: _unpause(place.engine.address, container)
    return nothing


def _unpause(address: str, container: str) -> None:
    with suppress(requests.RequestException, docker.errors.DockerException):
        client = docker.APIClient(base_url=address, timeout=3)
        try:
            client.unpause(container)
        finally:
            client.close()


def _network(how: str) -> Inflict:
    """Between the platform and the second engine, and the containers there."""

    def inflict(world: World, _: float) -> Heal:
        namespace = world.places[NODES[1]].engine.namespace
        verdict = ["DROP"] if how == "silent" else ["REJECT", "--reject-with", "tcp-reset"]
        rule = ["INPUT", "-i", "up0", "-p", "tcp", "-j", *verdict]
        _iptables(namespace, "-I", *rule)
        _iptables(namespace, "-I", "FORWARD", *rule[1:])

        def heal() -> None:
            _iptables(namespace, "-D", *rule)
            _iptables(namespace, "-D", "FORWARD", *rule[1:])

        return heal

    return inflict


def _iptables(namespace: str, *rule: str) -> None:
    command = ["nsenter", f"--net=/run/netns/{namespace}", "iptables", "-w", *rule]
    subprocess.run(command, check=False, capture_output=True)


def _fill_engine(world: World, _: float) -> Heal:
    disk = world.places[NODES[1]].disk
    if disk is None:
        return nothing
    disk.fill()
    return disk.empty


def _fill_postgres(world: World, _: float) -> Heal:
    if world.disk is None:
        return nothing
    world.disk.fill()
    return world.disk.empty


def _clock(least: float, most: float) -> Inflict:
    def inflict(world: World, pick: float) -> Heal:
        world.clock.move(least + (most - least) * pick)
        return nothing

    return inflict


def _device(during: Mapping[str, object], after: Mapping[str, object]) -> Inflict:
    def inflict(world: World, pick: float) -> Heal:
        nvml = world.places[NODES[int(pick * 1000) % 2]].nvml
        uuid = nvml.uuids[int(pick * len(nvml.uuids))]
        nvml.change(uuid, **during)
        return lambda: nvml.change(uuid, **after)

    return inflict


def _xid(world: World, pick: float) -> Heal:
    nvml = world.places[NODES[int(pick * 1000) % 2]].nvml
    uuid = nvml.uuids[int(pick * len(nvml.uuids))]
    before = int(nvml.devices[uuid].faults.rpartition(":")[2])
    nvml.change(uuid, faults=f"xid=79:{before + 1}")
    return nothing


def _sessions(world: World, _: float) -> Heal:
    """Every connection to the database is cut at once; the server lives on."""
    with suppress(psycopg.OperationalError), world.connect() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'leasing%'"
        )
    return nothing


FAULTS: tuple[Fault, ...] = (
    Fault("scheduler killed", _part("scheduler-1"), 3),
    Fault("scheduler killed", _part("scheduler-2"), 2),
    Fault("scheduler away", _part("scheduler-2", lasts=True), 1, 6),
    Fault("scheduler frozen", _freeze("scheduler-1"), 1, 8),
    Fault("api killed", _part("api"), 2),
    Fault("gateway killed", _part("gateway"), 2),
    Fault("sampler killed", _part("node-one"), 1),
    Fault("sampler away", _part("node-two", lasts=True), 1, 8),
    Fault("database connections cut", _sessions, 1),
    Fault("database connection killed", _postgres("backend"), 2),
    Fault("database crashed", _postgres("crash"), 1),
    Fault("database killed", _postgres("postmaster"), 0.7),
    Fault("database killed", _postgres("whole"), 0.7),
    Fault("engine killed", _engine("one", "kill"), 0.5),
    Fault("engine killed", _engine("two", "kill"), 0.5),
    Fault("engine stopped", _engine("one", "stop"), 0.3),
    Fault("engine frozen", _engine("two", "freeze"), 0.4, 6),
    Fault("container killed", _container("kill"), 6),
    Fault("container stopped", _container("stop"), 3),
    Fault("container removed", _container("remove"), 3),
    Fault("container paused", _container("pause"), 3, 6),
    Fault("network cut", _network("silent"), 0.6, 6),
    Fault("network refused", _network("refused"), 0.6, 6),
    Fault("engine's disk full", _fill_engine, 0.7, 6),
    Fault("database's disk full", _fill_postgres, 0.4, 4),
    Fault("clock ahead a little", _clock(0.5, 20), 1),
    Fault("clock ahead an hour", _clock(60, 3600), 0.4),
    Fault("clock back a little", _clock(-8, -0.1), 0.7),
    Fault("device lost", _device({"state": "lost"}, {"state": "ok"}), 1, 10),
    Fault("foreign process", _device({"processes": ((os.getpid(), 2**30),)}, {"processes": ()}), 1, 8),
    Fault("memory not freed", _device({"used": 2**34}, {"used": 0}), 1, 8),
    Fault("Xid", _xid, 0.3),
)  # fmt: skip
KINDS = tuple(dict.fromkeys(fault.kind for fault in FAULTS))
