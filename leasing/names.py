"""Names: which are allowed, which are made up, and which follow from a lease's id."""

from __future__ import annotations

import re
import secrets
from uuid import UUID

from leasing.errors import Invalid

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?", re.ASCII)
_USER = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,38}[a-z0-9])?", re.ASCII)

_ADJECTIVES = (
    "amber brisk calm clever deft eager gentle keen lively merry nimble plucky quiet rapid solid swift vivid"
)
_NOUNS = (
    "badger comet dolphin falcon gecko heron ibex lynx marten otter puffin raven sparrow tapir walrus wren"
)


def lease_name(text: str) -> str:
    """`text` if it is a DNS label of up to 40 characters; else `Invalid`."""
    if not _LABEL.fullmatch(text) or _reads_as_id(text):
        raise Invalid(
            f"{text[:60]!r} cannot be a name: use 1 to 40 lower-case letters, digits and dashes, no dash at an end.",
            hint="For example: train-7b.",
        )
    return text


def _reads_as_id(text: str) -> bool:
    """Wherever a lease is named its id will do, so a name must not be taken for one."""
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def user_name(text: str) -> str:
    """`text` if it may name a user; else `Invalid`."""
    if not _USER.fullmatch(text):
        raise Invalid(
            f"{text[:60]!r} cannot be a user name: use 1 to 40 lower-case letters, digits, dots, dashes, underscores.",
            hint="For example: ada.l.",
        )
    return text


def made_up() -> str:
    """A pronounceable lease name for people who gave none: `swift-otter-3f2a1`."""
    pick = secrets.choice
    return f"{pick(_ADJECTIVES.split())}-{pick(_NOUNS.split())}-{secrets.token_hex(3)[:5]}"


READ_ONLY = ":ro"
"""After a workspace's name: to read only, beside its writer."""


def workspace_ref(text: str) -> tuple[str | None, str, bool]:
    """Project, name and whether to read only, of `data`, `vision/data` and `data:ro`. Raises `Invalid`."""
    bare = text.removesuffix(READ_ONLY)
    project, slash, name = bare.rpartition("/")
    try:
        return (lease_name(project) if slash else None), lease_name(name), bare != text
    except Invalid as error:
        raise Invalid(
            f"{text[:60]!r} names no workspace: its name has 1 to 40 lower-case letters, digits and dashes.",
            hint="Yours: data. A project's: vision/data. To read only: data:ro.",
        ) from error


def short(lease_id: UUID) -> str:
    """The 12 hex digits of an id that go into names on an engine."""
    return lease_id.hex[:12]


def container(installation: str, lease_id: UUID, generation: int) -> str:
    return f"leasing-{installation}-{short(lease_id)}-{generation}"


def kept_image(installation: str, lease_id: UUID, generation: int) -> str:
    """The files that a lease's run of that generation goes on with."""
    return f"leasing/kept-{installation}-{short(lease_id)}:{generation}"


def network(installation: str, lease_id: UUID) -> str:
    return f"leasing-{installation}-{short(lease_id)}"


def bridge(lease_id: UUID) -> str:
    """The lease's bridge interface: 15 characters at most; the firewall's rules match the prefix `lsg`."""
    return f"lsg{short(lease_id)}"


def warm(installation: str, warm_id: UUID) -> str:
    """A sandbox's container and its network, and those of a warm container until a lease has it."""
    return f"leasing-{installation}-warm-{short(warm_id)}"


def volume(installation: str, workspace_id: UUID) -> str:
    return f"leasing-{installation}-ws-{short(workspace_id)}"


def export(installation: str, export_id: UUID) -> str:
    """The helper container through which a workspace is read."""
    return f"leasing-{installation}-export-{short(export_id)}"
