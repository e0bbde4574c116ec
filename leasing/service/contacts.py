"""Where users want to be told, by channel. Addresses may hold secrets: they are sealed, and shown without."""

from __future__ import annotations

import json
import re
import secrets
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit
from uuid import UUID

import sqlalchemy as sa
from cryptography.fernet import Fernet
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from leasing.errors import Invalid, NotFound
from leasing.model import Contact
from leasing.outgoing import Reach, check_url
from leasing.schema.notice import ContactOut, ContactPage
from leasing.secrets import unseal
from leasing.service import events
from leasing.service.principal import Principal
from leasing.settings.notify import NotifySettings
from leasing.states import Channel

SETTABLE = (Channel.MAIL, Channel.WEBHOOK, Channel.CHAT)
MAIL = re.compile(r"[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,250}[A-Za-z0-9])?")
HINTS = "contacts"
"""What listeners are woken by when one is to be tried."""


@dataclass(frozen=True)
class Target:
    """An address in full; `secret` is the key of a webhook's signature."""

    address: str
    secret: str = ""


def settable(settings: NotifySettings) -> tuple[Channel, ...]:
    """Channels that users may set here: mail needs a server."""
    return tuple(channel for channel in SETTABLE if channel is not Channel.MAIL or settings.smtp_url)


def page(session: Session, settings: NotifySettings, *, principal: Principal) -> ContactPage:
    """The caller's own; never their secrets."""
    rows = session.execute(
        sa.select(Contact).where(Contact.user_id == principal.user_id).order_by(Contact.channel)
    ).scalars()
    return ContactPage(items=[_out(row) for row in rows], channels=[*settable(settings)])


def store(
    session: Session,
    channel: str,
    address: str,
    fernet: Fernet,
    settings: NotifySettings,
    *,
    principal: Principal,
) -> ContactOut:
    """Keep an address, in place of the one on that channel. A webhook gets a new key, which is told this once.

    Raises `Invalid` for an address that makes no sense on that channel or leads into a private network.
    """
    wanted, shown = checked(channel, address, settings)
    secret = secrets.token_urlsafe(32) if wanted is Channel.WEBHOOK else ""
    sealed = fernet.encrypt(json.dumps({"address": address, "secret": secret}).encode())
    values = {"sealed_address": sealed, "shown": shown, "test_asked_at": None, "told_at": None, "error": ""}
    new = insert(Contact).values(user_id=principal.user_id, channel=wanted, **values)
    contact_id = session.execute(
        new.on_conflict_do_update(index_elements=["user_id", "channel"], set_=values).returning(Contact.id)
    ).scalar_one()
    said = f"{principal.name} wants to be told by {wanted} at {shown}"
    events.record(session, "contact.stored", said, actor=principal.actor)
    row = session.get_one(Contact, contact_id, populate_existing=True)
    return _out(row).model_copy(update={"secret": secret or None})


def remove(session: Session, channel: str, *, principal: Principal) -> None:
    """Raises `NotFound`."""
    row = _own(session, channel, principal)
    session.delete(row)
    said = f"{principal.name} is no longer to be told by {row.channel}"
    events.record(session, "contact.removed", said, actor=principal.actor)


def test(session: Session, channel: str, *, principal: Principal, now: datetime) -> ContactOut:
    """Have a message sent there that tries it; how it went stands in the contact soon. Raises `NotFound`."""
    row = _own(session, channel, principal)
    row.test_asked_at = now
    session.flush()
    events.hint(session, HINTS)
    return _out(row)


def channels_of(
    session: Session, user_ids: Collection[UUID], settings: NotifySettings
) -> dict[UUID, frozenset[Channel]]:
    """By what channels each user is told, beside the pages and the shell."""
    general = frozenset({Channel.WEBHOOK} if settings.webhook_url else ())
    usable = settable(settings)
    found: dict[UUID, frozenset[Channel]] = defaultdict(lambda: general)
    rows = session.execute(
        sa.select(Contact.user_id, Contact.channel).where(
            Contact.user_id.in_(user_ids), Contact.channel.in_(usable)
        )
    )
    for user_id, channel in rows:
        found[user_id] |= {Channel(channel)}
    return found


def target(row: Contact, fernet: Fernet) -> Target:
    """Its address in full. Raises `HostError` when it was sealed with another key."""
    return Target(**json.loads(unseal(fernet, row.sealed_address)))


def _channel(channel: str, settings: NotifySettings) -> Channel:
    usable = settable(settings)
    if channel in usable:
        return Channel(channel)
    if channel == Channel.MAIL:
        raise Invalid("There is no mail server here.", hint="An admin names one: LEASING_NOTIFY_SMTP_URL.")
    raise Invalid(
        f"{channel[:40]!r} is no channel that can be set.",
        hint=f"Those that can: {', '.join(usable)}. The pages and the shell always tell.",
    )


def checked(channel: str, address: str, settings: NotifySettings) -> tuple[Channel, str]:
    """The channel, and how the address is shown. Raises `Invalid` for what leads astray or makes no sense there."""
    wanted = _channel(channel, settings)
    if wanted is Channel.MAIL:
        if MAIL.fullmatch(address) is None:
            raise Invalid(f"{address[:80]!r} is not a mail address.", hint="Write it like ada@example.org")
        return wanted, address
    reach = Reach(settings.allowed())
    if wanted is Channel.WEBHOOK:
        check_url(address, reach, schemes=("https", "http"))
        host = urlsplit(address).hostname
        if not host:
            raise Invalid("That address names no host.", hint="Write it like https://example.org/hook")
        return wanted, f"{urlsplit(address).scheme}://{host}/…"
    check_url(address, reach, schemes=settings.schemes())
    return wanted, f"{urlsplit(address).scheme}://…"


def _own(session: Session, channel: str, principal: Principal) -> Contact:
    row = session.execute(
        sa.select(Contact).where(Contact.user_id == principal.user_id, Contact.channel == channel)
    ).scalar_one_or_none()
    if row is None:
        raise NotFound(
            f"You are not told by {channel[:40]!r}.", hint=f"lease notify set {channel[:40]} ADDRESS"
        )
    return row


def _out(row: Contact) -> ContactOut:
    return ContactOut(
        channel=row.channel,
        shown=row.shown,
        created_at=row.created_at,
        told_at=row.told_at,
        error=row.error,
        testing=row.test_asked_at is not None,
    )
