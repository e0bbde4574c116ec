"""The process that sends one letter: `python -m scheduler.delivery.sender`, the letter on its input.

It is told nothing but the letter, and from its first line on it can connect only to where the letter may go: users
choose the addresses, and Apprise's many plugins, names that resolve anew and redirects would else lead into the
installation's own network. The interpreter's audit hooks see every connection, and cannot be taken off again.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import sys
import time
from importlib import import_module
from typing import Any

import apprise
import httpx
from apprise.plugins.base import NotifyBase

from leasing.outgoing import Reach
from leasing.states import Channel
from scheduler.delivery.letter import Letter

FORBIDDEN = frozenset(
    {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "os.spawn"}
)
CONNECTING = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
AGENT = "Leasing"
MAX_ERROR = 300


class Refused(OSError):
    """That leads where a message must not go."""


class Webhook(NotifyBase):
    """A call with JSON and a signature over the very bytes of it, which Apprise's own kind has not."""

    def __init__(self, letter: Letter, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]  # only a part of Apprise has annotations
        self._letter = letter

    def send(
        self,
        body: str,
        title: str = "",
        notify_type: apprise.NotifyType = apprise.NotifyType.WARNING,
        **_: Any,
    ) -> bool:
        del notify_type  # all that is sent from here is a warning
        facts = {"id": self._letter.id, "title": title, "text": body, **self._letter.facts}
        content = json.dumps(facts, separators=(",", ":"), sort_keys=True).encode()
        headers = {"Content-Type": "application/json", "User-Agent": AGENT, "X-Leasing-Id": self._letter.id}
        if self._letter.secret:
            signed = str(int(time.time()))
            key = self._letter.secret.encode()
            digest = hmac.new(key, signed.encode() + b"." + content, hashlib.sha256).hexdigest()
            headers["X-Leasing-Timestamp"] = signed
            headers["X-Leasing-Signature"] = f"sha256={digest}"
        with (
            httpx.Client(timeout=self._letter.timeout_seconds, trust_env=False) as client,
            client.stream("POST", self._letter.address, content=content, headers=headers) as answer,
        ):
            if not answer.is_success:
                raise OSError(f"it answered {answer.status_code}")
        return True


def guard(reach: Reach) -> list[str]:
    """From now on this process connects only to what `reach` permits, and starts no other; what it was refused."""
    refused: list[str] = []

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        if event in FORBIDDEN:
            raise Refused(f"{event} is not for a sender")
        if event in CONNECTING:
            where = arguments[1]
            if where is None:
                return  # of a socket that was connected before, and so was judged
            if not isinstance(where, tuple) or not reach.permits(str(where[0])):
                refused.append(f"it leads to {where[0]}, which is not a public address")
                raise Refused(refused[-1])

    sys.addaudithook(look)
    return refused


def send(letter: Letter) -> str:
    """Why it was not sent; empty if it was."""
    heard = _Heard()
    asset = apprise.AppriseAsset(
        app_id=AGENT,
        allow_templates=False,
        storage_mode=apprise.PersistentStoreMode.MEMORY,
        service_timeout=0,
    )
    if letter.channel is Channel.WEBHOOK:
        service: Any = Webhook(letter, asset=asset)
    else:
        logging.getLogger("apprise").addHandler(heard)
        # Apprise makes a new Message-ID for every try; of what is sent twice both are the same message
        module = import_module("apprise.plugins.email.base")
        vars(module)["make_msgid"] = lambda domain=None: f"<{letter.id}@{domain or 'leasing'}>"
        service = apprise.Apprise.instantiate(letter.address, asset=asset)
    if service is None:
        return "that address is not understood"
    service.socket_connect_timeout = service.socket_read_timeout = letter.timeout_seconds
    try:
        sent = service.notify(
            body=letter.body, title=letter.title, notify_type=apprise.NotifyType.WARNING, body_format="text"
        )
    except (OSError, httpx.HTTPError, ValueError) as error:
        return _plain(f"{error}" or type(error).__name__)
    return "" if sent else _plain(heard.last or "it was not taken")


class _Heard(logging.Handler):
    """What Apprise said last; it tells of failures in its log only."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.getMessage()


def _plain(text: str) -> str:
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())[:MAX_ERROR]


def main() -> None:
    letter = Letter.load(sys.stdin.read())
    refused = guard(Reach(letter.reach).resolved())
    error = send(letter)
    sys.stdout.write(json.dumps({"error": error and (refused or [error])[0]}) + "\n")


if __name__ == "__main__":
    main()
