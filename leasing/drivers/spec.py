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
TOOLS = "/run/lease/ssh"
"""Programs of the platform's own, for coming in; they run in any image."""
WARM, SANDBOX = "warm", "sandbox"
"""Roles of containers that no lease has yet."""
UNNAMED = "lease"
"""Host name of those."""
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
    read_only: bool = False
    """Of the workspace."""
    follows: str | None = None
    """The stopped container whose files it goes on with; `image` is then made from that."""
    sandbox: str | None = None
    """The sandbox whose network it joins, by name."""
    tools: str | None = None
    """The image of what it sees below `TOOLS`."""


@dataclass(frozen=True, kw_only=True)
class WarmFacts:
    """What is known of a warm container when it is made. `cpus` is in cores, `memory_bytes` in bytes."""

    warm_id: UUID
    installation: str
    image: str
    cpus: float
    memory_bytes: int
    device_uuids: Sequence[str] = ()
    tools: str | None = None
    """As a lease's."""


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
        sandbox=facts.sandbox,
        tools=facts.tools,
        mounts=(Mount(volume=facts.workspace, target=WORKSPACE, read_only=facts.read_only),)
        if facts.workspace
        else (),
    )


def command(facts: LeaseFacts, image: Image) -> tuple[str, ...]:
    """What its container runs, whole: as an engine would put it together."""
    return (*image.entrypoint, *(facts.command or (image.command if image.runs else ("sleep", "infinity"))))


def identity(lease_id: UUID, name: str) -> dict[str, str]:
    """The variables that say in a container whose it is; no user may change them."""
    return {"LEASE_ID": str(lease_id), "LEASE_NAME": name, "HOSTNAME": name}


def waiting(facts: WarmFacts, image: Image, settings: DockerSettings) -> ContainerSpec:
    """A container that is started before anybody asked: a lease's in everything that cannot be changed later.

    Nobody's name is in it, neither in labels nor in variables: its row says who has it, once somebody has.
    """
    name = names.warm(facts.installation, facts.warm_id)
    return ContainerSpec(
        name=name,
        image=facts.image,
        command=None,
        environment=_defaults(settings) | _visible(facts.device_uuids),
        labels={LABEL_INSTALLATION: facts.installation, LABEL_ROLE: WARM},
        network=name,
        bridge=names.bridge(facts.warm_id),
        hostname=UNNAMED,
        user=USER,
        home=HOME,
        working_dir=WORKSPACE,
        cpus=facts.cpus,
        memory_bytes=facts.memory_bytes,
        shm_bytes=min(settings.shm_bytes, facts.memory_bytes),
        pids_limit=settings.pids_limit,
        device_uuids=tuple(facts.device_uuids),
        prepared=LABEL_ENVIRONMENT in image.labels,
        tools=facts.tools,
        waits=True,
    )


def _defaults(settings: DockerSettings) -> dict[str, str]:
    """The platform's own variables."""
    defaults = {"HOME": HOME}
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        if (value := getattr(settings, name)) is not None:
            defaults[name] = defaults[name.upper()] = value
    if settings.ca_bundle is not None:
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "GIT_SSL_CAINFO"):
            defaults[name] = CA_BUNDLE
    return defaults


def _visible(device_uuids: Sequence[str]) -> dict[str, str]:
    # CUDA images ask for every device by themselves: without this they would see them all
    return {} if device_uuids else {"NVIDIA_VISIBLE_DEVICES": "void"}


def _environment(facts: LeaseFacts, settings: DockerSettings) -> dict[str, str]:
    """The platform's defaults, then the user's, then what no user may change."""
    return {
        **_defaults(settings),
        **facts.env,
        **identity(facts.lease_id, facts.name),
        **_visible(facts.device_uuids),
    }
