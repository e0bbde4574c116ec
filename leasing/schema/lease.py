"""Leases on the wire: what a request says, what a lease looks like, and what goes with it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints, model_validator

from leasing.schema.base import Request, Wire
from leasing.schema.endpoint import PLAIN, EndpointOptions, EndpointRequest
from leasing.schema.keep import KeepOut
from leasing.schema.notice import NoticeOut
from leasing.schema.policy import LeasePolicyOut
from leasing.states import Priority

Line = Annotated[str, StringConstraints(max_length=4096)]
EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]{0,62}$")]
LabelValue = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{0,63}$")]
EnvValue = Annotated[str, StringConstraints(max_length=32_768)]


class LeaseRequest(Request):
    """What a developer asks for. Everything has a default but nothing is guessed: the answer shows what was taken."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "demo", "command": ["python3", "-m", "http.server", "8000"], "port": 8000},
                {
                    "image": "pytorch",
                    "gpu": "A100:2",
                    "cpus": "8",
                    "memory": "64G",
                    "ttl": "4h",
                    "idle_timeout": "30m",
                },
            ]
        }
    )

    name: str | None = Field(None, description="DNS label of up to 40 characters; one is made up if absent.")
    image: str | None = Field(
        None, max_length=512, description="Environment of the catalogue, or an image reference."
    )
    gpu: str = Field("0", max_length=80, description="`1`, `A100:2`, `0.5`, `24GB`, `A100:24GB`, `1g.10gb`.")
    cpus: str | None = Field(None, max_length=20, description="Cores: `2`, `0.5`.")
    memory: str | None = Field(None, max_length=20, description="`16G`.")
    shm: str | None = Field(None, max_length=20, description="Shared memory (/dev/shm): `2G`.")
    ttl: str | None = Field(
        None, max_length=40, description="How long, from when it runs: `4h`. Not with `until`."
    )
    until: AwareDatetime | None = Field(None, description="The moment it ends. Not with `ttl`.")
    idle_timeout: str | None = Field(
        None, max_length=40, description="`30m`; `never`; absent: by the policy that counts for it."
    )
    command: list[Line] | None = Field(None, max_length=256, description="Absent: the image's own command.")
    on_suspend: list[Line] | None = Field(
        None,
        max_length=256,
        description="Run inside the container before it is stopped to be suspended, for a bounded time.",
    )
    env: dict[EnvName, EnvValue] = Field(default_factory=dict, max_length=256)
    port: int | None = Field(
        None, ge=1, le=65535, description="Port the application listens on, to be its endpoint."
    )
    share: bool = Field(False, description="With the members of its project, each as far as their role goes.")
    endpoint: EndpointRequest | None = Field(None, description="Cache, waking and limits of its endpoint.")
    workspace: str | None = Field(
        None,
        max_length=90,
        description="Persistent volume mounted at /workspace: `data` of yours, `vision/data` of a project's, "
        "`data:ro` to read only, beside its writer.",
    )
    project: str = Field("default", max_length=40, description="In whose name; its members may lease there.")
    priority: Priority = Field(Priority.NORMAL, description="Class in the queue; a project's is bounded.")
    preemptible: bool = Field(
        False, description="May be suspended when others need its place; then it queues again."
    )
    node: str | None = Field(None, max_length=255, description="Only on the node of that name.")
    labels: dict[Label, LabelValue] = Field(
        default_factory=dict, max_length=16, description="Only on nodes with all of these labels."
    )
    reservation: str | None = Field(None, max_length=40, description="Use the devices of this reservation.")
    at_least: str | None = Field(
        None,
        max_length=40,
        description="A reservation that begins sooner may cut the time down to this: `1h`.",
    )
    wait: bool = Field(True, description="False: refuse at once when there is no room now.")

    @model_validator(mode="after")
    def _one_end(self) -> LeaseRequest:
        if self.ttl is not None and self.until is not None:
            raise ValueError("ttl and until say the same thing twice: give one of them")
        return self


class RenewRequest(Request):
    """Extend the deadline: `ttl` is added to the present one, `until` replaces it, neither is the usual step."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"ttl": "2h"}]})

    ttl: str | None = Field(None, max_length=40)
    until: AwareDatetime | None = None

    @model_validator(mode="after")
    def _one(self) -> RenewRequest:
        if self.ttl is not None and self.until is not None:
            raise ValueError("ttl and until say the same thing twice: give one of them")
        return self


class ResumeRequest(Request):
    """Time for a suspended lease to go on with, from when it runs; absent: what it has left, or, if its time was over,
    what it was first asked for."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"ttl": "4h"}]})

    ttl: str | None = Field(None, max_length=40, description="How long, from when it runs: `4h`.")
    until: AwareDatetime | None = Field(None, description="The moment it ends.")

    @model_validator(mode="after")
    def _one_end(self) -> ResumeRequest:
        if self.ttl is not None and self.until is not None:
            raise ValueError("ttl and until say the same thing twice: give one of them")
        return self


class RequestOut(Wire):
    """The request as it was taken, defaults filled in. Durations in seconds, sizes in bytes, CPUs in cores."""

    gpu: str
    cpus: float
    memory_bytes: int
    shm_bytes: int | None
    ttl_seconds: int | None
    until: datetime | None
    idle_timeout_seconds: int | None
    command: list[str] | None
    on_suspend: list[str] | None = None
    env: dict[str, str]
    """Empty for callers who may not enter the lease: it may hold secrets."""
    port: int | None
    workspace: str | None
    priority: str
    preemptible: bool
    node: str | None
    labels: dict[str, str]
    reservation: str | None
    at_least_seconds: int | None
    wait: bool


class DeviceOut(Wire):
    """A lease's share of a device, in thousandths, with its memory."""

    uuid: str
    index: int
    model: str
    share: int
    memory_bytes: int
    memory_used_bytes: int | None = None
    """Of a part: what the lease's own processes use of it; None is "cannot be measured"."""


class SignalOut(Wire):
    """What one signal of activity says of a lease."""

    kind: str
    state: str
    """active, quiet, unknown, or inapplicable: it can say nothing of this lease, and does not count."""
    value: float | None = None
    """As last measured; None while that is unknown."""
    threshold: float
    """From here on it is activity."""
    since: datetime | None = None
    """Since when it is quiet, or unknown; None while it is active."""
    active_at: datetime | None = None
    """When it was last active."""
    reason: str = ""
    """Why it is unknown or does not apply."""


class IdleOut(Wire):
    verdict: str
    seconds: float
    """How long every signal has been quiet; 0 while one is active or unknown. Idle once that is the whole window."""
    reason: str
    since: datetime | None = None
    """Since when every signal has been quiet."""
    signals: list[SignalOut] = Field(default_factory=list)
    """Each signal; empty in lists of leases."""


class QueueOut(Wire):
    position: int
    """1 is next."""
    expected_start: datetime | None
    """When it will probably start; None when it cannot be told, and `blockers` says why it waits."""
    latest_start: datetime | None = None
    """When it will start if everybody before it stays to the end of their time; None when even that cannot be told."""
    blockers: list[str]


class LeaseOut(Wire):
    """A lease, as the caller sees it."""

    id: UUID
    name: str
    state: str
    goal: str | None
    reason: str | None
    message: str
    owner: str
    project: str
    shared: bool = False
    """With the members of its project, each as far as their role goes."""
    may: list[str] = Field(default_factory=list)
    """What the caller may do with it: see, call, enter, change, release, share."""
    image: str
    request: RequestOut
    devices: list[DeviceOut]
    node: str | None
    endpoint_url: str | None
    endpoint: EndpointOptions = PLAIN
    """What its endpoint was told besides the port."""
    progress: str
    created_at: datetime
    started_at: datetime | None
    ends_at: datetime | None
    ended_at: datetime | None
    exit_code: int | None
    oom_killed: bool
    last_log: str
    warning: str | None = None
    """What it is about to be stopped for, if it goes on."""
    device_fault: str | None = None
    """What is wrong with its devices, as seen from inside its container or by NVML; None while nothing is."""
    suspend_reason: str | None = None
    """While it is suspended, or waits to go on: why."""
    suspended_at: datetime | None = None
    keeps: str | None = None
    """While it is suspended or waits to go on: what of it is kept; more is never promised."""
    kept_bytes: int | None = None
    """What its files take on its node's disk, besides its image; None where the engine does not say."""
    reclaim_at: datetime | None = None
    """When it will be taken back as idle; None while it is not warned of that."""
    notices: list[NoticeOut] = Field(default_factory=list)
    """What it is warned of, the next to happen first."""
    retain_until: datetime | None = None
    """While it is suspended: when it ends and its files go; None while they stay."""
    idle: IdleOut | None
    keep: KeepOut | None = None
    """How its owner keeps it although it looks idle; None while they do not, and in lists of leases."""
    policy: LeasePolicyOut | None = None
    """By what it is taken back when it is idle; None once it has ended."""
    queue: QueueOut | None


class LeasePage(Wire):
    items: list[LeaseOut]
    next: str | None
    """Cursor for the next page; None at the end."""


class EventOut(Wire):
    id: int
    at: datetime
    actor: str
    kind: str
    message: str
    lease: UUID | None
    from_state: str | None
    to_state: str | None
    reason: str | None
    data: dict[str, Any]


class EventPage(Wire):
    items: list[EventOut]
    next: str | None


class WhyOut(Wire):
    """Why a lease is where it is: its state in a sentence, its place in the queue, every blocker."""

    state: str
    summary: str
    position: int | None
    blockers: list[str]
    expected_start: datetime | None = None
    """While it waits: when there will probably be room, by what leases usually do."""
    latest_start: datetime | None = None
    """While it waits: when there will be room by the deadlines of those before it."""
    policy: str | None = None
    """By what it is taken back when it is idle, in words."""


class QueueEntryOut(Wire):
    position: int
    lease: str
    owner: str
    project: str
    priority: str
    gpu: str
    cpus: float
    memory_bytes: int
    queued_at: datetime
    blockers: list[str]
    expected_start: datetime | None = None
    latest_start: datetime | None = None


class AccuracyOut(Wire):
    """How good forecasts were, of what those who waited were first told."""

    days: int
    """So far back."""
    forecasts: int
    """So many leases waited and were told something."""
    median_error_seconds: float
    """Half of them started within so many seconds of the expected time."""
    bias_seconds: float
    """The mean of start less expected start: above 0 they started later than was told."""
    by_latest_ratio: float | None
    """Part of them that started by the latest time told, a minute for handing over allowed; None: none was told one."""


class QueuePage(Wire):
    items: list[QueueEntryOut]
    accuracy: AccuracyOut | None = None
    """None where nobody has waited lately."""
