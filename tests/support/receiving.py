"""Who gets warnings: a mail server and an HTTP receiver, real sockets, which keep all that comes."""

from __future__ import annotations

import socketserver
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class Mailbox:
    """A mail server's; `refuse` so many mails first."""

    url: str = ""
    mails: list[Message] = field(default_factory=list)
    to: list[str] = field(default_factory=list)
    refuse: int = 0


@dataclass(frozen=True)
class Call:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """A webhook's; it answers with `status`, and sends callers on to `elsewhere` where that is set."""

    url: str = ""
    calls: list[Call] = field(default_factory=list)
    status: int = 200
    elsewhere: str = ""


@contextmanager
def mail_server() -> Iterator[Mailbox]:
    """Speaks as much SMTP as a mail takes (RFC 5321)."""
    box = Mailbox()

    class Session(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 test")
            while line := self.rfile.readline().decode().strip():
                word = line[:4].upper()
                if word == "EHLO":
                    self._say("250-test", "250 8BITMIME")
                elif word == "RCPT" and box.refuse:
                    box.refuse -= 1
                    self._say("451 not now")
                elif word == "RCPT":
                    box.to.append(line.partition("<")[2].partition(">")[0])
                    self._say("250 ok")
                elif word == "DATA":
                    self._say("354 go on")
                    lines = iter(self.rfile.readline, b".\r\n")
                    box.mails.append(message_from_bytes(b"".join(lines)))
                    self._say("250 taken")
                elif word == "QUIT":
                    self._say("221 bye")
                    return
                else:
                    self._say("250 ok")

        def _say(self, *lines: str) -> None:
            self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    with Server(("127.0.0.1", 0), Session) as server, _served(server):
        box.url = f"smtp://127.0.0.1:{server.server_address[1]}"
        yield box


@contextmanager
def http_receiver() -> Iterator[Receiver]:
    kept = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            kept.calls.append(Call(self.path, dict(self.headers.items()), body))
            self.send_response(307 if kept.elsewhere else kept.status)
            if kept.elsewhere:
                self.send_header("Location", kept.elsewhere)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server, _served(server):
        kept.url = f"http://127.0.0.1:{server.server_port}"
        yield kept


@contextmanager
def _served(server: socketserver.BaseServer) -> Iterator[None]:
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
