"""A container that waits, and becomes a lease's: its name, its host name, and what it runs.

It is started with a shell that reads its input and does nothing else. What to run comes as one line over the engine's
attached stream: it costs a call of the engine, works on any engine, and leaves no file behind. The shell then becomes
the command, so that exit code, output and signals are the command's own.
"""

from __future__ import annotations

import ctypes
import logging
import os
import shlex
import socket
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker

from leasing.drivers.docker import convert
from leasing.drivers.docker.connection import Connection
from leasing.drivers.protocol import Container, HandOver
from leasing.errors import DriverError

log = logging.getLogger(__name__)

GATE = (
    'while IFS= read -r line; do case $line in "go "*" og") line=${line#go }; '
    'eval "$(printf %b "${line% og}")";; esac; done'
)
"""Reads lines until one is whole; a line that was cut short by a sender's death is passed over."""
WAITS = ("/bin/sh", "-c", GATE)
NEWUTS = 0x04000000


class HandOvers:
    """The part of the driver that hands waiting containers over."""

    _connection: Connection
    _beside: ThreadPoolExecutor

    def hand_over(self, container_id: str, becomes: HandOver) -> Container:
        with self._connection.call() as client:
            facts = client.inspect_container(container_id)
            renamed = facts["Name"] == f"/{becomes.name}"
            # half of a hand-over is that the engine writes the new name down: all else goes on meanwhile
            naming = None if renamed else self._beside.submit(client.rename, facts["Id"], becomes.name)
            try:
                if not facts["State"]["Running"]:
                    client.start(facts["Id"])
                    facts = client.inspect_container(facts["Id"])
                if not call_it(facts, becomes.hostname):
                    _call_it_from_inside(client, facts, becomes.hostname)
                tell(client, facts["Id"], line(becomes.command, becomes.environment))
            finally:
                if naming is not None:
                    naming.result()
            return convert.container({**facts, "Name": becomes.name})


def line(command: Sequence[str], environment: Mapping[str, str]) -> bytes:
    """What `GATE` understands. It begins anew, so that whatever was left half said before it does no harm."""
    given = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
    said = f"export {given}; exec {shlex.join(command)} </dev/null"
    return f"\ngo {said.replace(chr(92), chr(92) * 2).replace(chr(10), chr(92) + 'n')} og\n".encode()


def call_it(facts: Mapping[str, Any], name: str) -> bool:
    """Give a running container its host name, where its engine is on this machine and we may; whether that was so.

    Its own kernel name space is entered for that, and the files in which the engine says the name are changed: a
    container that joined a sandbox, or waited, was created when its name was not known.
    """
    hosts = Path(facts.get("HostsPath") or "/nonexistent")
    if os.geteuid() != 0 or not hosts.is_file() or not _is_here(facts):
        return False
    failed: list[OSError] = []
    # the name space is a thread's own: this one ends in it
    thread = threading.Thread(target=_enter_and_name, args=(facts["State"]["Pid"], name, failed))
    thread.start()
    text = hosts.read_text()
    own = f"\t{facts['Config']['Hostname']}\n"
    if own in text:
        hosts.write_text(text.replace(own, f"\t{name}{own}"))
    Path(facts["HostnamePath"]).write_text(f"{name}\n")
    thread.join()
    if failed:
        log.warning("host name not set container=%s error=%s", facts["Id"][:12], failed[0])
    return not failed


def _is_here(facts: Mapping[str, Any]) -> bool:
    """Whether its process number means the same to us as to the engine."""
    try:
        groups = Path(f"/proc/{facts['State']['Pid']}/cgroup").read_text()
    except OSError:
        return False
    return str(facts["Id"]) in groups


def _enter_and_name(pid: int, name: str, failed: list[OSError]) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    try:
        space = os.open(f"/proc/{pid}/ns/uts", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        failed.append(error)
        return
    try:
        if library.setns(space, NEWUTS) != 0 or library.sethostname(name.encode(), len(name)) != 0:
            failed.append(OSError(os.strerror(ctypes.get_errno())))
    finally:
        os.close(space)


def _call_it_from_inside(client: docker.APIClient, facts: Mapping[str, Any], name: str) -> None:
    """The same by a command inside, which takes longer. Nothing of a user runs there yet."""
    address = convert.container(facts).address or "127.0.1.1"
    script = 'hostname "$1" && echo "$1" > /etc/hostname && echo "$2 $1" >> /etc/hosts'
    command = ["/bin/sh", "-c", script, "sh", name, address]
    made = client.exec_create(facts["Id"], command, user="0:0", privileged=True)["Id"]
    said = client.exec_start(made)
    if client.exec_inspect(made)["ExitCode"] != 0:
        raise DriverError(f"A container's host name cannot be set: {said.decode(errors='replace').strip()}")


def tell(client: docker.APIClient, container_id: str, said: bytes) -> None:
    """Write to its input, and let go."""
    held = client.attach_socket(container_id, params={"stdin": 1, "stream": 1})
    connection: socket.socket = getattr(held, "_sock", held)
    try:
        connection.sendall(said)
        connection.shutdown(socket.SHUT_WR)
    finally:
        response = getattr(held, "_response", None)
        if response is not None:
            response.close()
        held.close()
        connection.close()
