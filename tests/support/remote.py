"""Somebody's own machine, from which they go into leases by OpenSSH: a home, a sign-in, the command line."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.stack import until

SECONDS = 60.0


@dataclass(frozen=True)
class Machine:
    """`environment` has the home and the sign-in."""

    environment: Mapping[str, str]

    @classmethod
    def at(cls, home: Path, url: str, secret: str) -> Machine:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("XDG_", "LEASING_", "SSH_"))
        }
        own = {
            "HOME": str(home),
            "LEASING_CONFIG_DIR": str(home / "conf"),
            "LEASING_URL": url,
            "LEASING_TOKEN": secret,
        }
        return cls(kept | own)

    @property
    def config(self) -> str:
        """What its ssh reads; ssh looks for it in the home that the system knows, which a test does not touch."""
        return str(Path(self.environment["HOME"], ".ssh/config"))

    def run(self, *command: str, code: int = 0, given: bytes = b"") -> str:
        """What it prints; with another code than 0, also what it complains of."""
        done = subprocess.run(
            command, env=self.environment, input=given, capture_output=True, check=False, timeout=SECONDS
        )
        assert done.returncode == code, f"{command}: {done.returncode} {done.stdout!r} {done.stderr!r}"
        return done.stdout.decode() + (done.stderr.decode() if code else "")

    @contextmanager
    def running(self, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        """One that goes on for the length of a block; both of its outputs are one."""
        with subprocess.Popen(
            command,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    @contextmanager
    def terminal(self, *command: str) -> Iterator[Shown]:
        """One in a terminal of 100 columns and 30 rows."""
        pid, screen = pty.fork()
        if pid == 0:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it would outlive its terminal
            os.execvpe(command[0], command, self.environment)
        fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        try:
            yield Shown(screen)
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(screen)


@dataclass
class Shown:
    """A terminal: what it shows, and what is typed."""

    screen: int
    seen: bytearray = field(default_factory=bytearray)

    def type(self, text: bytes) -> None:
        os.write(self.screen, text)

    def shows(self, text: bytes) -> None:
        """Wait until it does; what came before it is forgotten."""
        deadline = time.monotonic() + SECONDS
        while text not in self.seen:
            assert time.monotonic() < deadline, bytes(self.seen)
            if select.select([self.screen], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.screen, 65536)
                except OSError:
                    raise AssertionError(f"it ended: {bytes(self.seen)!r}") from None
        del self.seen[: self.seen.index(text) + len(text)]


def listens(port: int) -> None:
    """Wait until something does there, on this machine."""

    def answers() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    until(answers, what=f"a listener at {port}")


def through_socks(proxy: int, host: str, port: int) -> socket.socket:
    """A connection that a SOCKS5 proxy on this machine makes to a name, as editors make theirs."""
    made = socket.create_connection(("127.0.0.1", proxy), SECONDS)
    made.sendall(b"\x05\x01\x00")
    assert made.recv(2) == b"\x05\x00"
    made.sendall(b"\x05\x01\x00\x03" + bytes([len(host)]) + host.encode() + struct.pack(">H", port))
    answer = made.recv(10)
    assert answer[:2] == b"\x05\x00", answer
    return made
