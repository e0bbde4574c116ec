"""A lease's life: its states, the one table of transitions, and the reasons for an end.

`docs/lifecycle.md` is generated from the table, and a test keeps the two equal. One module writes a state:
`leasing.service.transitions`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class LeaseState(StrEnum):
    """Where a lease is in its life."""

    QUEUED = "queued"
    """Waits for room; holds nothing."""
    PLACED = "placed"
    """Devices, CPUs and memory are its own; nothing has been done on the engine yet."""
    STARTING = "starting"
    """A worker fetches the image and creates and starts the container."""
    RUNNING = "running"
    """The container runs."""
    STOPPING = "stopping"
    """A worker stops the container; `goal` says whether the lease then ends or is suspended."""
    SUSPENDED = "suspended"
    """Devices are free again; the container's files and the workspace are kept."""
    ENDED = "ended"
    """Over, for one of `EndReason`; its events and usage stay."""


S = LeaseState

LIVE = frozenset(S) - {S.ENDED}
"""Holds its name."""

HOLDING = frozenset({S.PLACED, S.STARTING, S.RUNNING, S.STOPPING})
"""Has an open run, and so a place on a node."""

TRANSITIONAL = frozenset({S.PLACED, S.STARTING, S.STOPPING})
"""A worker must act; whoever finds such a lease unclaimed takes it up again."""

STOPPABLE = frozenset({S.PLACED, S.STARTING, S.RUNNING})
"""Has a run that must be wound down before the lease can end or be suspended."""

RESTING = frozenset({S.QUEUED, S.SUSPENDED})
"""Holds no place: release ends it at once."""


class Goal(StrEnum):
    """What a stopping lease becomes."""

    ENDED = "ended"
    SUSPENDED = "suspended"


class EndReason(StrEnum):
    """Why a lease ended."""

    COMPLETED = "completed"
    """Its command finished with exit code 0."""
    RELEASED = "released"
    """Its owner, or an admin for them, gave it back."""
    CANCELLED = "cancelled"
    """Given up before it ran."""
    EXPIRED = "expired"
    """Its time was over."""
    IDLE = "idle"
    """Every signal was quiet for the whole window."""
    PREEMPTED = "preempted"
    """A more important lease took its place."""
    DRAINED = "drained"
    """Its node left."""
    REVOKED = "revoked"
    """An admin took it back."""
    FAILED = "failed"
    """It could not be started, or its command ended with another code than 0."""
    LOST = "lost"
    """Its container or node went away and did not come back."""


class SuspendReason(StrEnum):
    """Why a lease was suspended."""

    ASKED = "asked"
    """Its owner, or an admin for them, put it to rest."""
    PREEMPTED = "preempted"
    """It is preemptible, and somebody who comes before it needed its place. It queues again by itself."""
    FAILED = "failed"
    """It was to go on and could not be started; its files are kept."""
    IDLE = "idle"
    """Every signal was quiet for the whole window."""
    EXPIRED = "expired"
    """Its time was over."""
    DRAINED = "drained"
    """Its node leaves. It queues again by itself, for another."""
    DEVICE = "device"
    """A device of its own was lost. It queues again by itself, for another."""


GOES_ON_BY_ITSELF = frozenset({SuspendReason.PREEMPTED, SuspendReason.DEVICE, SuspendReason.DRAINED})
"""Nobody asked for the suspension, and nothing speaks against going on: it queues again at once."""


class ReclaimAction(StrEnum):
    """What becomes of a lease that is taken back for being idle or over time."""

    SUSPEND = "suspend"
    """It is stopped, its devices are free, its files are kept."""
    END = "end"
    """It ends, and its container goes; the workspace stays."""
    WARN = "warn"
    """Its owner is told, and it is left as it is. Of one that is over time: as `suspend`."""


class NoticeKind(StrEnum):
    """What a warning is about."""

    IDLE = "idle"
    """It will be taken back as idle."""
    EXPIRY = "expiry"
    """Its time will be over."""
    RETENTION = "retention"
    """It is suspended, and its files will go."""
    DEVICE = "device"
    """It has lost a device. Told once, at no deadline of its own."""


class Channel(StrEnum):
    """How a warning reaches its lease's owner."""

    WEB = "web"
    """A banner on the pages, and a line in every answer of the command line."""
    SHELL = "shell"
    """A message inside the container: terminals and /run/lease/info.json."""
    MAIL = "mail"
    WEBHOOK = "webhook"
    CHAT = "chat"


class WorkspaceKind(StrEnum):
    """What a workspace is made of."""

    VOLUME = "volume"
    """A plain volume of the engine; its quota is watched, not enforced."""
    QUOTA = "quota"
    """A file system of its own, which cannot grow past its quota."""


class WarmRole(StrEnum):
    """What is kept ready on a node, before anybody asks."""

    SANDBOX = "sandbox"
    """A network of its own, held by a container that only waits; any start may join it."""
    WARM = "warm"
    """A started and paused container of an environment."""


class WarmState(StrEnum):
    """Where a warm container or sandbox is in its life. Used once, it never comes back."""

    MAKING = "making"
    READY = "ready"
    TAKEN = "taken"
    """A run has it."""
    SPENT = "spent"
    """To be removed: it has served, or is not wanted any more."""


class Priority(StrEnum):
    """The classes of the queue: everybody of a higher one comes before everybody of a lower one."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"

    @property
    def rank(self) -> int:
        """As rows hold it; higher comes first."""
        return list(Priority).index(self) - 1

    @classmethod
    def of(cls, rank: int) -> Priority:
        """The class that rows hold as `rank`."""
        return list(cls)[rank + 1]


class Cause(StrEnum):
    """Who moves a lease along an edge."""

    USER = "user"
    PLANNER = "planner"
    STARTER = "starter"
    STOPPER = "stopper"
    RECONCILER = "reconciler"
    RECLAIMER = "reclaimer"
    ADMIN = "admin"
    """Of a node that does not come back: nobody can ask its engine any more."""


@dataclass(frozen=True)
class Edge:
    """One allowed transition: from, to, who causes it, and when."""

    source: LeaseState
    target: LeaseState
    causes: frozenset[Cause]
    when: str


def _edge(source: LeaseState, target: LeaseState, when: str, *causes: Cause) -> Edge:
    return Edge(source, target, frozenset(causes), when)


TABLE: tuple[Edge, ...] = (
    _edge(S.QUEUED, S.PLACED, "there is room, and it is this lease's turn", Cause.PLANNER),
    _edge(S.QUEUED, S.ENDED, "cancelled, expired or refused while waiting, or its files were on a lost node",
          Cause.USER, Cause.RECLAIMER, Cause.PLANNER, Cause.ADMIN),
    _edge(S.QUEUED, S.SUSPENDED, "to go on later, or its time was over: it waited to be resumed", Cause.USER,
          Cause.RECLAIMER),
    _edge(S.PLACED, S.STARTING, "a worker has claimed the start", Cause.STARTER),
    _edge(S.PLACED, S.QUEUED, "the node went away before the start", Cause.STARTER, Cause.RECONCILER, Cause.ADMIN),
    _edge(S.PLACED, S.STOPPING, "released, expired or reclaimed before the start, or its files were on a lost node",
          Cause.USER, Cause.RECLAIMER, Cause.ADMIN),
    _edge(S.PLACED, S.ENDED, "its node was lost with its files", Cause.ADMIN),
    _edge(S.STARTING, S.RUNNING, "the engine says that the container runs", Cause.STARTER),
    _edge(S.STARTING, S.QUEUED, "the start failed and may work elsewhere or later", Cause.STARTER, Cause.RECONCILER,
          Cause.ADMIN),
    _edge(S.STARTING, S.STOPPING, "released, expired, reclaimed, or failed for good", Cause.USER, Cause.RECLAIMER,
          Cause.STARTER, Cause.ADMIN),
    _edge(S.STARTING, S.ENDED, "its node was lost with its files", Cause.ADMIN),
    _edge(S.RUNNING, S.STOPPING, "released, suspended, expired, reclaimed, preempted, or the container died",
          Cause.USER, Cause.RECLAIMER, Cause.RECONCILER, Cause.PLANNER),
    _edge(S.RUNNING, S.STARTING, "engine, machine or device restarted, or asked for: the same run again",
          Cause.RECONCILER, Cause.USER),
    _edge(S.RUNNING, S.ENDED, "the container is lost for good", Cause.RECONCILER, Cause.ADMIN),
    _edge(S.STOPPING, S.ENDED, "the container is gone and its devices are free", Cause.STOPPER, Cause.ADMIN),
    _edge(S.STOPPING, S.SUSPENDED, "stopped with its files kept, devices free", Cause.STOPPER, Cause.ADMIN),
    _edge(S.SUSPENDED, S.QUEUED, "resumed, or preempted and so waiting again", Cause.USER, Cause.STOPPER),
    _edge(S.SUSPENDED, S.ENDED, "released, or its retention is over, or its files were on a lost node", Cause.USER,
          Cause.RECLAIMER, Cause.ADMIN),
)  # fmt: skip

EDGES: dict[tuple[LeaseState, LeaseState], Edge] = {(edge.source, edge.target): edge for edge in TABLE}


def allowed(source: LeaseState, target: LeaseState, cause: Cause) -> bool:
    """Whether `cause` may move a lease from `source` to `target`."""
    edge = EDGES.get((source, target))
    return edge is not None and cause in edge.causes


class NodeHealth(StrEnum):
    """What is seen of a node."""

    READY = "ready"
    UNREACHABLE = "unreachable"
    """Its engine or sampler is silent; leases on it are left alone for a while."""
    LOST = "lost"
    """An admin said that it does not come back: its leases are given up. It is ready again should it answer."""


class NodeIntent(StrEnum):
    """What admins want of a node."""

    OPEN = "open"
    CORDONED = "cordoned"
    """No new leases."""
    DRAINING = "draining"
    """No new leases, and those on it leave."""


class DeviceHealth(StrEnum):
    """What NVML last said of a device."""

    OK = "ok"
    LOST = "lost"
    """Fell off the bus, or NVML cannot speak to it."""
    FAULTY = "faulty"
    """Answers, with an error that makes it unfit to lease."""
    RETIRED = "retired"
    """No longer reported by its node."""


class Verdict(StrEnum):
    """What the signals say of a running lease together. Unknown never reclaims."""

    ACTIVE = "active"
    IDLE = "idle"
    UNKNOWN = "unknown"


class ReservationState(StrEnum):
    """What has become of a reservation. Only `booked` and `used` ones hold devices."""

    BOOKED = "booked"
    """Nobody has leased under it yet."""
    USED = "used"
    """A lease has its place under it."""
    CANCELLED = "cancelled"
    MISSED = "missed"
    """Nobody came within the grace; its devices were given back."""
    OVER = "over"


class ProjectRole(StrEnum):
    """What a member may do in a project."""

    VIEWER = "viewer"
    """Belongs to it, and may not lease."""
    DEVELOPER = "developer"
    """Leases in its name, and under its reservations."""
    OWNER = "owner"
    """And says who belongs to it."""


class Role(StrEnum):
    """What a person may do."""

    ADMIN = "admin"
    DEVELOPER = "developer"
