"""The driver's life-cycle half: containers, their networks and volumes, and what the engine says of them."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, NotFound
from docker.types import DeviceRequest, LogConfig
from docker.types import Mount as DockerMount

from leasing.drivers import spec as lease_spec
from leasing.drivers.docker import convert, files
from leasing.drivers.docker.commands import Commands
from leasing.drivers.docker.connection import POOL, Connection
from leasing.drivers.docker.copying import Copying
from leasing.drivers.docker.handover import WAITS, HandOvers, call_it
from leasing.drivers.docker.images import Images
from leasing.drivers.docker.keeping import Keeping
from leasing.drivers.docker.networks import Networks, reconnected
from leasing.drivers.docker.sandboxes import Sandboxes
from leasing.drivers.docker.tools import Tools
from leasing.drivers.docker.volumes import Volumes
from leasing.drivers.protocol import (
    LABEL_INSTALLATION,
    LABEL_NAME,
    Container,
    ContainerEvent,
    ContainerSpec,
    Created,
    Engine,
)
from leasing.errors import DriverError, EngineDown, HostError
from leasing.settings.docker import DockerSettings

ACTIONS = ("start", "die", "oom", "destroy")


class DockerDriver(Images, Keeping, Copying, Commands, Volumes, HandOvers, Sandboxes):
    """One Docker Engine. Thread-safe; calls from many threads run side by side."""

    def __init__(self, address: str, settings: DockerSettings) -> None:
        """`address` as in DOCKER_HOST; empty means that, or this machine's socket. Connects at the first call."""
        self._connection = Connection(address, settings.timeout_seconds)
        super().__init__(self._connection)
        self._settings = settings
        self._networks = Networks(settings.network_pool)
        self._tools = Tools()
        # a lease's network and its container are made at the same time: the container names the network, and needs it
        # only when it starts
        self._beside = ThreadPoolExecutor(max_workers=POOL, thread_name_prefix="docker-network")
        self._closing = threading.Event()
        self._following: set[Any] = set()

    def probe(self) -> Engine:
        with self._connection.fresh(10) as client:
            info = client.info()
            epoch = _epoch(client)
            quota = self.disk_quota(client, info)
        local = self._connection.address.startswith("unix://")
        return Engine(
            version=info["ServerVersion"],
            epoch=epoch,
            cpus=info["NCPU"],
            memory_bytes=info["MemTotal"],
            disk_free_bytes=_disk_free(info["DockerRootDir"]) if local else None,
            gpu_runtime="nvidia" in (info.get("Runtimes") or {}),
            cgroup_version=int(info.get("CgroupVersion") or 1),
            rootless=any("rootless" in option for option in info.get("SecurityOptions") or ()),
            # their host names are set from outside, by who shares the engine's machine
            sandboxes=local and os.geteuid() == 0 and Path(info["DockerRootDir"]).is_dir(),
            disk_quota=quota,
        )

    def epoch(self) -> str | None:
        with self._connection.call() as client:
            return _epoch(client)

    def create(self, spec: ContainerSpec) -> Created:
        with self._connection.call() as client:
            labels = dict(spec.labels)
            if spec.sandbox is not None:  # up already, unless the engine was restarted
                network: Future[Any] = self._beside.submit(client.start, spec.sandbox)
            else:
                network = self._beside.submit(
                    self._networks.create, client, spec.network, spec.bridge, labels
                )
            made = False
            try:
                container_id, made = self._create(client, spec)
                epoch = _epoch(client)
                network.result()
                if made:
                    self._prepare(client, container_id, spec)
            except BaseException:
                self._unmake(client, spec, network_made=_succeeded(network), container_made=made)
                raise
            return Created(id=container_id, epoch=epoch)

    def start(self, container_id: str) -> Container:
        with self._connection.call() as client:
            try:
                client.start(container_id)  # 304, already running, is no error
            except NotFound as error:
                if not reconnected(client, container_id, error):
                    raise
                client.start(container_id)
            facts = client.inspect_container(container_id)
            if _joined(facts) is not None:
                call_it(facts, facts["Config"]["Labels"][LABEL_NAME])
            return _seen(client, facts)

    def write_file(self, container_id: str, path: str, content: bytes) -> None:
        with self._connection.call() as client:
            client.put_archive(container_id, "/", files.one_file(path, content))

    def inspect(self, container_id: str) -> Container | None:
        with self._connection.call() as client:
            try:
                return _seen(client, client.inspect_container(container_id))
            except NotFound:
                return None

    def stop(self, container_id: str, *, grace_seconds: int) -> None:
        with self._connection.call() as client, contextlib.suppress(NotFound):
            client.stop(container_id, timeout=grace_seconds)

    def remove(self, container_id: str, *, network: str | None) -> None:
        with self._connection.call() as client:
            try:
                # v: the volumes that its image declares go with it; named ones, which workspaces are, stay
                client.remove_container(container_id, v=True, force=True)
            except APIError as error:
                if error.status_code not in (404, 409):  # gone, or being removed by somebody else
                    raise
            if network is not None:
                self._networks.remove(client, network)

    def containers(self, installation: str) -> list[Container]:
        with self._connection.call() as client:
            found = client.containers(all=True, filters={"label": f"{LABEL_INSTALLATION}={installation}"})
        return [convert.listed(facts) for facts in found]

    def networks(self, installation: str) -> list[str]:
        with self._connection.call() as client:
            found = client.networks(filters={"label": f"{LABEL_INSTALLATION}={installation}"})
        return [facts["Name"] for facts in found]

    def remove_network(self, name: str) -> None:
        with self._connection.call() as client:
            self._networks.remove(client, name)

    def events(self, installation: str, *, since: datetime) -> Iterator[ContainerEvent]:
        # a client of its own: the stream has no time-out, and is cut by close()
        with self._connection.fresh(365 * 86400) as client:
            stream = client.events(
                since=int(since.timestamp()),
                decode=True,
                filters={"type": "container", "label": f"{LABEL_INSTALLATION}={installation}"},
            )
            self._following.add(stream)
            try:
                if self._closing.is_set():  # between here and close(), one of the two sees the other
                    return
                for facts in stream:
                    if facts["Action"] in ACTIONS:
                        yield ContainerEvent(
                            container_id=facts["id"],
                            action=facts["Action"],
                            at=datetime.fromtimestamp(facts["timeNano"] / 1e9, UTC),
                            labels=facts["Actor"]["Attributes"],
                        )
            except Exception:  # closing breaks the stream in any of several ways; unasked for, it is an error
                if not self._closing.is_set():
                    raise
            finally:
                self._following.discard(stream)
        if not self._closing.is_set():
            raise EngineDown(f"The Docker engine at {self._connection.address} closed its event stream.")

    def tail(self, container_id: str, lines: int) -> str:
        with self._connection.call() as client:
            try:
                output: bytes = client.logs(container_id, tail=lines)
            except NotFound:
                return ""
        return output.decode(errors="replace").replace("\0", "")

    def close(self) -> None:
        self._closing.set()
        for stream in list(self._following):
            with contextlib.suppress(Exception):  # the stream may be ending by itself at this moment
                stream.close()
        self._beside.shutdown(wait=False)
        self._connection.close()

    def _create(self, client: docker.APIClient, spec: ContainerSpec) -> tuple[str, bool]:
        """Its id, and whether it is new."""
        try:
            made = client.create_container(
                spec.image,
                command=list(spec.command) if spec.command else None,
                entrypoint=list(WAITS) if spec.waits else None,
                stdin_open=spec.waits,
                detach=True,  # its input stays open when whoever spoke to it leaves
                name=spec.name,
                hostname=None if spec.sandbox else spec.hostname,
                user=spec.user,
                environment=dict(spec.environment),
                labels=dict(spec.labels),
                working_dir=spec.working_dir,
                host_config=self._host_config(client, spec),
            )
        except APIError as error:
            if error.status_code != 409:
                raise
            found = client.inspect_container(spec.name)
            if any(
                (found["Config"].get("Labels") or {}).get(key) != value for key, value in spec.labels.items()
            ):
                raise DriverError(
                    f"A container called {spec.name} exists and is not this lease's."
                ) from error
            return str(found["Id"]), False
        return str(made["Id"]), True

    def _host_config(self, client: docker.APIClient, spec: ContainerSpec) -> Any:
        settings = self._settings
        devices = [
            DeviceRequest(
                driver="nvidia",
                device_ids=list(spec.device_uuids),
                capabilities=[["gpu", "compute", "utility"]],
            )
        ]
        return client.create_host_config(
            network_mode=f"container:{spec.sandbox}" if spec.sandbox else spec.network,
            nano_cpus=round(spec.cpus * 1e9),
            mem_limit=spec.memory_bytes,
            memswap_limit=spec.memory_bytes,
            shm_size=spec.shm_bytes,
            pids_limit=spec.pids_limit,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            init=True,
            restart_policy={"Name": "no"},
            device_requests=devices if spec.device_uuids else None,
            volumes_from=[spec.follows] if spec.follows else None,
            log_config=LogConfig(
                type="json-file",
                config={"max-size": f"{settings.log_max_megabytes}m", "max-file": str(settings.log_files)},
            ),
            mounts=[
                DockerMount(
                    mount.target,
                    mount.volume,
                    type="volume",
                    read_only=mount.read_only,
                    # to an empty volume the engine gives the owner and the files of the image's folder: a reader's
                    # image has no say in that
                    no_copy=mount.read_only,
                    labels=_volume_labels(spec),
                )
                for mount in spec.mounts
            ]
            + self._tools.mounted(client, spec),
        )

    def _prepare(self, client: docker.APIClient, container_id: str, spec: ContainerSpec) -> None:
        if not spec.prepared:
            closed = {mount.target for mount in spec.mounts if mount.read_only}
            folders = [folder for folder in (spec.home, spec.working_dir) if folder and folder not in closed]
            client.put_archive(container_id, "/", files.folders(*folders))
        if self._settings.ca_bundle is not None:
            bundle = _bundle(self._settings.ca_bundle)
            client.put_archive(container_id, "/", files.one_file(lease_spec.CA_BUNDLE, bundle))

    def _unmake(
        self, client: docker.APIClient, spec: ContainerSpec, *, network_made: bool, container_made: bool
    ) -> None:
        """Take back what a failed create had made; whatever resists is an orphan, and reconciled later."""
        with contextlib.suppress(APIError):
            if container_made:
                client.remove_container(spec.name, v=True, force=True)
        with contextlib.suppress(APIError):
            if network_made and spec.sandbox is None:
                client.remove_network(spec.network)


def _succeeded(network: Any) -> bool:
    return network.exception() is None


def _bundle(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise HostError(
            f"The certificates at {path} cannot be read: {error.strerror}.",
            hint="LEASING_DOCKER_CA_BUNDLE names that file.",
        ) from error


def _joined(facts: Mapping[str, Any]) -> str | None:
    """The sandbox whose network a container joined."""
    kind, _, other = facts["HostConfig"]["NetworkMode"].partition(":")
    return other if kind == "container" else None


def _seen(client: docker.APIClient, facts: Mapping[str, Any]) -> Container:
    """From an inspection; the address of one that joined a sandbox is the sandbox's."""
    found = convert.container(facts)
    sandbox = _joined(facts)
    if sandbox is None or not found.running:
        return found
    try:
        return replace(found, address=convert.container(client.inspect_container(sandbox)).address)
    except NotFound:
        return found


def _volume_labels(spec: ContainerSpec) -> dict[str, str]:
    return {LABEL_INSTALLATION: spec.labels[LABEL_INSTALLATION]}


def _epoch(client: docker.APIClient) -> str | None:
    """The default bridge network is made anew whenever the engine starts without live containers, and kept otherwise:
    its id tells one life of the engine from the next."""
    try:
        return str(client.inspect_network("bridge")["Id"])
    except NotFound:
        return None


def _disk_free(root: str) -> int | None:
    try:
        facts = os.statvfs(root)
    except OSError:
        return None
    return facts.f_bavail * facts.f_frsize
