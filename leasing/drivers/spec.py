"""Lease → container: everything the engine is told, decided in one pure function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from leasing import names
from leasing.drivers.protocol import (
    KEPT,
    LABEL_INSTALLATION,
    LABEL_LEASE,
    LABEL_NAME,
    LABEL_OWNER,
    LABEL_ROLE,
    ContainerSpec,
    Image,
    Mount,
)
from leasing.settings.docker import DockerSettings

USER = "1000:1000"
HOME = "/home/lease"
WORKSPACE = "/workspace"
CA_BUNDLE = "/run/lease/ca-bundle.crt"
INFO = "/run/lease/info.json"
LABEL_ENVIRONMENT = "leasing.environment"
"""On the images of our catalogue: they have the user, its home and the workspace folder."""


@dataclass(frozen=True, kw_only=True)
class LeaseFacts:
    """What is known of a lease's run when its container is made. `cpus` is in cores, sizes are bytes."""

    lease_id: UUID
    name: str
    owner: str
    installation: str
    generation: int
    image: str
    command: Sequence[str] | None
    env: Mapping[str, str]
    cpus: float
    memory_bytes: int
    shm_bytes: int | None
    device_uuids: Sequence[str]
    workspace: str | None
    """The workspace's volume."""
    follows: str | None = None
    """The stopped container whose files it goes on with; `image` is then made from that."""


def build(facts: LeaseFacts, image: Image, settings: DockerSettings) -> ContainerSpec:
    """The container of that run. Deterministic: made again, it has the same name.

    An image without a command of its own, asked for without one, sleeps: people come in by `lease exec`.
    """
    return ContainerSpec(
        name=names.container(facts.installation, facts.lease_id, facts.generation),
        image=facts.image,
        command=facts.command or (None if image.runs else ("sleep", "infinity")),
        environment=_environment(facts, settings),
        labels={
            LABEL_INSTALLATION: facts.installation,
            LABEL_ROLE: "lease",
            LABEL_LEASE: str(facts.lease_id),
            LABEL_NAME: facts.name,
            LABEL_OWNER: facts.owner,
        },
        network=names.network(facts.installation, facts.lease_id),
        bridge=names.bridge(facts.lease_id),
        hostname=facts.name,
        user=USER,
        home=HOME,
        working_dir=WORKSPACE,
        cpus=facts.cpus,
        memory_bytes=facts.memory_bytes,
        shm_bytes=facts.shm_bytes or min(settings.shm_bytes, facts.memory_bytes),
        pids_limit=settings.pids_limit,
        device_uuids=tuple(facts.device_uuids),
        prepared=LABEL_ENVIRONMENT in image.labels or image.labels.get(LABEL_ROLE) == KEPT,
        follows=facts.follows,
        mounts=(Mount(volume=facts.workspace, target=WORKSPACE),) if facts.workspace else (),
    )


def _environment(facts: LeaseFacts, settings: DockerSettings) -> dict[str, str]:
    """The platform's defaults, then the user's, then what no user may change."""
    defaults: dict[str, str] = {}
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        if (value := getattr(settings, name)) is not None:
            defaults[name] = defaults[name.upper()] = value
    if settings.ca_bundle is not None:
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "GIT_SSL_CAINFO"):
            defaults[name] = CA_BUNDLE
    fixed = {"LEASE_ID": str(facts.lease_id), "LEASE_NAME": facts.name}
    if not facts.device_uuids:
        # CUDA images ask for every device by themselves: without this they would see them all
        fixed["NVIDIA_VISIBLE_DEVICES"] = "void"
    return {"HOME": HOME, **defaults, **facts.env, **fixed}
