"""Every error the platform raises on purpose.

    LeasingError
    ├── Invalid            the request makes no sense as written          (422)
    ├── NotSignedIn        no token, or one that is not valid             (401)
    ├── NotAllowed         signed in, but this is somebody else's         (403)
    ├── NotFound           no such thing, or not visible to you           (404)
    ├── Conflict           true as asked, but not in the present state    (409)
    │   ├── NameTaken
    │   ├── IdempotencyMismatch
    │   └── Stale          a worker's claim ran out; write nothing
    ├── OverQuota          a hard ceiling of the user's                   (403)
    ├── NoRoom             refused for lack of room                       (409)
    │   ├── NeverFits      more than any node has, now or ever
    │   └── NotFree        somebody has it for a part of that time
    ├── Gone               the lease has ended                            (410)
    ├── DriverError        the engine refused or failed                   (502)
    │   ├── EngineDown     nothing answers at the engine's address
    │   ├── ImageNotFound  the reference cannot be pulled or built
    │   ├── ContainerGone  the engine knows no such container
    │   ├── VolumeGone     a workspace's files are not where they were
    │   ├── FilesGone      what a suspended lease was to go on with is not there
    │   └── DiskFull       the engine's disk is too full to start more
    ├── Unavailable        a part of the platform is away; try again      (503)
    └── HostError          this machine lacks something; the way out named

A class has one stable `code`, which is what crosses the wire: the SDK raises the same class again. The table from class
to HTTP status is `api.problems`. The docstring of a class is its default message.
"""

from __future__ import annotations

from typing import ClassVar


class LeasingError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str | None = None, *, hint: str | None = None) -> None:
        """`message` says what and which limit, `hint` names a command or value that would work."""
        self.message = message or (type(self).__doc__ or "").strip()
        self.hint = hint
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message


class Invalid(LeasingError):
    """The request makes no sense as written."""

    code = "invalid"


class NotSignedIn(LeasingError):
    """You are not signed in."""

    code = "not_signed_in"


class NotAllowed(LeasingError):
    """You may not do that."""

    code = "not_allowed"


class NotFound(LeasingError):
    """There is no such thing."""

    code = "not_found"


class Conflict(LeasingError):
    """That cannot be done in the present state."""

    code = "conflict"


class NameTaken(Conflict):
    """A live lease has that name already."""

    code = "name_taken"


class IdempotencyMismatch(Conflict):
    """That idempotency key was used for a different request."""

    code = "idempotency_mismatch"


class Stale(Conflict):
    """The row changed hands since it was claimed."""

    code = "stale"


class OverQuota(LeasingError):
    """That is more than your quota."""

    code = "over_quota"


class NoRoom(LeasingError):
    """There is no room for that now."""

    code = "no_room"


class NeverFits(NoRoom):
    """No node is large enough for that."""

    code = "never_fits"


class NotFree(NoRoom):
    """That is not free for all of that time."""

    code = "not_free"


class Gone(LeasingError):
    """That lease has ended."""

    code = "gone"


class DriverError(LeasingError):
    """The container engine refused."""

    code = "driver_error"


class EngineDown(DriverError):
    """The container engine does not answer."""

    code = "engine_down"


class ImageNotFound(DriverError):
    """There is no such image."""

    code = "image_not_found"


class ContainerGone(DriverError):
    """The engine knows no such container."""

    code = "container_gone"


class VolumeGone(DriverError):
    """The volume with the workspace's files is not on its node any more."""

    code = "volume_gone"


class FilesGone(DriverError):
    """The files that the lease was to go on with are gone."""

    code = "files_gone"


class DiskFull(DriverError):
    """The engine's disk is too full to start more."""

    code = "disk_full"


class Unavailable(LeasingError):
    """A part of the platform is away; try again shortly."""

    code = "unavailable"


class HostError(LeasingError):
    """This machine lacks something the platform needs."""

    code = "host"


def by_code() -> dict[str, type[LeasingError]]:
    """Every error class under its wire code."""
    found: dict[str, type[LeasingError]] = {}
    waiting: list[type[LeasingError]] = [LeasingError]
    while waiting:
        cls = waiting.pop()
        found[cls.code] = cls
        waiting.extend(cls.__subclasses__())
    return found
