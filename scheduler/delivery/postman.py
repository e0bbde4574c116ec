"""One warning on one channel: who gets what, and by which way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit
from uuid import UUID

from cryptography.fernet import Fernet

from leasing import names
from leasing.database import Sessions
from leasing.errors import HostError
from leasing.model import Contact, Lease, Notice
from leasing.reclaim import Rule
from leasing.service import contacts, links, notices
from leasing.service.links import Link
from leasing.settings.notify import NotifySettings
from leasing.states import Channel, NoticeKind
from scheduler.away import SAID
from scheduler.delivery import words
from scheduler.delivery.letter import Letter, mail_address, mail_host
from scheduler.delivery.post import deliver
from scheduler.fleet import Fleet
from scheduler.reconcile import notices as infos

WALL_SECONDS = 5.0
WALL = (
    'for tty in /dev/pts/[0-9]*; do [ -w "$tty" ] && { printf "%s" "$1" > "$tty" & }; done; '
    "sleep 1; kill $(jobs -p) 2>/dev/null; true"
)
"""Writes to every terminal of the container's user. Nobody waits for one that takes nothing, such as a stopped one."""


@dataclass(frozen=True)
class Errand:
    """A notice with all that it takes to deliver it, as read when it was claimed."""

    notice: Notice
    lease: Lease
    owner: str
    channel: Channel
    contact: Contact | None
    place: tuple[int, UUID, str, str] | None
    """Of the open run: generation, and the node's id, driver and address."""
    away: bool
    """Whether that node is known not to answer."""


@dataclass(frozen=True)
class Keys:
    """What addresses are sealed with, and what links are signed with."""

    seal: Fernet
    links: bytes


class Postman:
    """Knows every channel. `send` is what takes a letter out, and says why it could not."""

    def __init__(
        self,
        sessions: Sessions,
        fleet: Fleet,
        installation: str,
        settings: NotifySettings,
        *,
        url: str,
        keys: Keys | None,
        send: Callable[[Letter], str] = deliver,
    ) -> None:
        """`url` is where people reach the pages. Without `keys` only the shell is told."""
        self._sessions = sessions
        self._fleet = fleet
        self._installation = installation
        self._settings = settings
        self._url = url
        self._keys = keys
        self._send = send

    def deliver(self, errand: Errand) -> str:
        """Why it was not delivered; empty if it was. Raises `LeasingError`."""
        if errand.channel is Channel.SHELL:
            return self._shell(errand)
        letters = list(self._letters(errand))
        if not letters:
            return "its owner has no such address any more"
        errors = [error for letter in letters if (error := self._send(letter))]
        return "; ".join(errors)

    def try_out(self, contact: Contact, name: str) -> str:
        """Send a message that only shows that it arrives; why it was not sent, or empty. Raises `LeasingError`."""
        asked = contact.test_asked_at or contact.created_at
        body = f"Hello {name}, this is where warnings about your leases will come.\n\n{self._url}\n"
        title, number = "Leasing reaches you", f"{contact.id}-{int(asked.timestamp())}"
        return self._send(self._letter(contact, number, title, body, {"event": "test", "user": name}))

    def _shell(self, errand: Errand) -> str:
        if errand.place is None:
            return "it has no container now"
        if errand.away:
            return SAID
        generation, node_id, driver, address = errand.place
        notice, lease = errand.notice, errand.lease
        engine = self._fleet.connected(node_id, driver, address)
        container = names.container(self._installation, lease.id, generation)
        infos.run_once(self._sessions, self._fleet, self._installation, only=lease.id)
        line = words.wall(self._sentence(notice), notices.hint(lease.name, NoticeKind(notice.kind)))
        engine.run(container, ["sh", "-c", WALL, "sh", line], seconds=WALL_SECONDS)
        return ""  # an image without a shell has no terminals but its own program's; the file is told

    def _letters(self, errand: Errand) -> list[Letter]:
        notice, lease, kind = errand.notice, errand.lease, NoticeKind(errand.notice.kind)
        said, hint = self._sentence(notice), notices.hint(lease.name, kind)
        link, page = self._link(errand), f"{self._url}/leases/{lease.id}"
        title, body = words.title(kind, lease.name), words.body(said, hint=hint, link=link, page=page)
        facts = {
            "event": "warning",
            "kind": kind,
            "lease": {"id": str(lease.id), "name": lease.name, "owner": errand.owner, "url": page},
            "deadline": notice.deadline.astimezone(UTC).isoformat(),
            "step_seconds": notice.step_seconds,
            "extend_url": link,
        }
        made = []
        if errand.contact is not None:
            made.append(self._letter(errand.contact, str(notice.id), title, body, facts))
        if errand.channel is Channel.WEBHOOK and self._settings.webhook_url:
            made.append(
                Letter(
                    id=str(notice.id), channel=Channel.WEBHOOK, address=self._settings.webhook_url, title=title,
                    body=body, facts=facts, secret=self._settings.webhook_secret,
                    reach=(urlsplit(self._settings.webhook_url).hostname or "",),
                    timeout_seconds=self._settings.timeout_seconds,
                )
            )  # fmt: skip
        return made

    def _letter(
        self, contact: Contact, number: str, title: str, body: str, facts: dict[str, object]
    ) -> Letter:
        target = contacts.target(contact, self._need().seal)
        channel, reach, address = Channel(contact.channel), self._settings.allowed(), target.address
        if channel is Channel.MAIL:
            address, reach = mail_address(self._settings, address), (mail_host(self._settings),)
        return Letter(
            id=number, channel=channel, address=address, title=title, body=body, facts=facts,
            secret=target.secret, reach=reach, timeout_seconds=self._settings.timeout_seconds,
        )  # fmt: skip

    def _link(self, errand: Errand) -> str | None:
        """Where one click extends it; there is nothing to extend about a lost device."""
        notice, kind = errand.notice, NoticeKind(errand.notice.kind)
        if kind is NoticeKind.DEVICE:
            return None
        expires = links.lasts_until(notice.deadline, Rule().retention_seconds)
        link = Link(errand.lease.id, kind, notice.deadline, expires)
        return f"{self._url}/extend/{links.make(self._need().links, link)}"

    def _sentence(self, notice: Notice) -> str:
        announced = notice.kind != NoticeKind.DEVICE and bool(notice.step_seconds)
        return words.sentence(notice.message, notice.deadline, announced=announced, now=datetime.now(UTC))

    def _need(self) -> Keys:
        if self._keys is None:
            raise HostError("This scheduler was started without the installation's keys.")
        return self._keys
