"""What the engine says → what went wrong, in one table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import requests.exceptions
from docker.errors import APIError, DockerException

from leasing.errors import ContainerGone, DiskFull, DriverError, EngineDown, ImageNotFound

UNREACHABLE = (
    r"no such host|server misbehaving|connection refused|network is unreachable|no route to host"
    r"|i/o timeout|Client\.Timeout|TLS handshake|x509|server gave HTTP response"
)

Table = tuple[tuple[re.Pattern[str], type[DriverError], str], ...]


def _table(*rows: tuple[str, type[DriverError], str]) -> Table:
    """Pattern in the engine's message → the error and words for people; `{0}` is the pattern's first group."""
    return tuple(
        (re.compile(pattern, re.IGNORECASE | re.DOTALL), error, words) for pattern, error, words in rows
    )


ENGINE = _table(
    (r"no space left on device", DiskFull, "The engine's disk is full."),
    (r"no such image: (\S+)", ImageNotFound, "There is no image {0} on the engine."),
    (r"invalid reference format", ImageNotFound, "That is not an image reference."),
    (r'exec: "([^"]+)":[^\n]*(?:not found|no such file)', DriverError, "The image has no executable {0}."),
    (r'exec: "([^"]+)": permission denied', DriverError, "{0} in the image may not be executed."),
    (r"unknown device[^\n]*?((?:GPU|MIG)-[\w-]+)", DriverError, "The engine knows no device {0}."),
    (r"((?:GPU|MIG)-[\w-]+)[^\n]*unknown device", DriverError, "The engine knows no device {0}."),
    (r"could not select device driver", DriverError, "The node lacks the NVIDIA container toolkit."),
    (r"no such container", ContainerGone, "The engine knows no such container."),
    (r"dead or marked for removal", ContainerGone, "The container is being removed."),
)  # fmt: skip

# Only while pulling: elsewhere the same words ("connection refused", "permission denied: unknown") are the engine's own
# trouble with its parts, which passes, and must not end a lease as one whose image does not exist.
REGISTRY = _table(
    (r"pull access denied for ([^\s,]+)", ImageNotFound, "There is no image {0}, or it may not be read."),
    (r"manifest for (\S+) not found", ImageNotFound, "The registry has no image {0}."),
    (r"manifest unknown|not found", ImageNotFound, "The registry has no such image."),
    (r"unauthorized|authentication required|no basic auth credentials|denied:", ImageNotFound,
     "The registry wants other credentials."),
    (UNREACHABLE, ImageNotFound, "The image's registry cannot be reached from the engine."),
)  # fmt: skip


def translated(message: str, *, pulling: bool = False) -> DriverError:
    """The error that a message of the engine's means, keeping the message itself when nothing says it better."""
    for pattern, error, words in ENGINE + REGISTRY if pulling else ENGINE:
        if match := pattern.search(message):
            said = words.format(*match.groups())
            hint = f"The engine says: {message.strip()[:400]}" if error is not ContainerGone else None
            return error(said, hint=hint)
    return DriverError(f"The engine refused: {message.strip()[:600]}")


@contextmanager
def engine_errors(address: str, *, pulling: bool = False) -> Iterator[None]:
    """Raise ours for whatever the SDK raises."""
    try:
        yield
    except APIError as error:
        raise translated(error.explanation or str(error), pulling=pulling) from error
    except (requests.exceptions.RequestException, DockerException, OSError) as error:
        raise EngineDown(
            f"The Docker engine at {address} does not answer: {type(error).__name__}.",
            hint="Is it running? docker info tells.",
        ) from error
