"""One message on its way out, complete: whoever sends it needs nothing else."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from leasing.errors import HostError
from leasing.settings.notify import NotifySettings
from leasing.states import Channel

MODES = {"smtp": "insecure", "smtp+starttls": "starttls", "smtps": "ssl"}
"""Of a mail server's address -> what Apprise calls it."""


@dataclass(frozen=True, kw_only=True)
class Letter:
    """`id` is the same at every try, so that who gets it twice can tell."""

    id: str
    channel: Channel
    address: str
    """Apprise's URL of it; of a webhook the address itself."""
    title: str
    body: str
    facts: dict[str, Any] = field(default_factory=dict)
    """What a webhook is told."""
    secret: str = field(default="", repr=False)
    reach: tuple[str, ...] = ()
    """Hosts and networks that it may lead to beside the public ones."""
    timeout_seconds: float = 15.0

    def dump(self) -> str:
        """As the sending process reads it."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> Letter:
        said = json.loads(text)
        return cls(**said | {"channel": Channel(said["channel"]), "reach": tuple(said["reach"])})


def mail_address(settings: NotifySettings, to: str) -> str:
    """Apprise's URL of a mail to that address by the installation's server. Raises `HostError`."""
    server = urlsplit(settings.smtp_url)
    if server.scheme not in MODES or not server.hostname:
        raise HostError(
            "LEASING_NOTIFY_SMTP_URL names no mail server.", hint=f"Begin it with one of {', '.join(MODES)}."
        )
    login = f"{quote(server.username)}:{quote(server.password or '')}@" if server.username else ""
    port = f":{server.port}" if server.port else ""
    said = urlencode(
        {
            "smtp": server.hostname,
            "from": settings.smtp_from,
            "to": to,
            "mode": MODES[server.scheme],
            "format": "text",
        }
    )
    scheme = "mailto" if server.scheme == "smtp" else "mailtos"
    return f"{scheme}://{login}{server.hostname}{port}/?{said}"


def mail_host(settings: NotifySettings) -> str:
    """The mail server: the installation's own choice, wherever it is."""
    return urlsplit(settings.smtp_url).hostname or ""
