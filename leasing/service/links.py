"""Links that extend one lease with one click, from a mail or a chat, by whoever has the link.

A link is signed with the installation's key and names a lease, what it was warned of and the deadline: it is good for
putting off that one deadline, and so only once. Nothing of it is stored.
"""

from __future__ import annotations

import base64
import hmac
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from leasing.errors import Gone, NotFound
from leasing.states import NoticeKind

PURPOSE = "extend"
_KINDS = tuple(NoticeKind)
_FORM = struct.Struct(">16sBQQ")
_SIGNATURE = 20
"""Bytes of the signature that a link carries: nobody guesses 160 bits."""


@dataclass(frozen=True)
class Link:
    """What a link is good for."""

    lease_id: UUID
    kind: NoticeKind
    deadline: datetime
    expires: datetime


def make(key: bytes, link: Link) -> str:
    """The link's last part."""
    said = _FORM.pack(
        link.lease_id.bytes, _KINDS.index(link.kind), _millis(link.deadline), _millis(link.expires)
    )
    return _text(said + _sign(key, said))


def read(key: bytes, text: str, *, now: datetime) -> Link:
    """Raises `NotFound` for what we did not sign, whatever is wrong with it, and `Gone` for a link that is too old."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:  # not base64, or not even ASCII
        raw = b""
    said, signature = raw[: _FORM.size], raw[_FORM.size :]
    if not hmac.compare_digest(signature, _sign(key, said)) or _text(raw) != text:
        raise NotFound("There is no such link.", hint="Look whether it was copied whole; or sign in.")
    lease_id, kind, deadline, expires = _FORM.unpack(said)
    link = Link(UUID(bytes=lease_id), _KINDS[kind], _moment(deadline), _moment(expires))
    if link.expires <= now:
        raise Gone("That link is too old.", hint="Sign in to see what has become of the lease.")
    return link


def _text(raw: bytes) -> str:
    """As links write bytes: one way only, or a link could be changed and still be good."""
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def lasts_until(deadline: datetime, retention_seconds: int) -> datetime:
    """How long a link is good: as long as there is anything left to keep, a week at least where that is for ever."""
    return deadline + timedelta(seconds=retention_seconds or 7 * 86400)


def _sign(key: bytes, said: bytes) -> bytes:
    return hmac.digest(key, said, "sha256")[:_SIGNATURE]


def _millis(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _moment(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC)
