"""What of an SSH connection is activity, with a clock of its own."""

from __future__ import annotations

from uuid import uuid4

from api.streams.moving import QUIET_BYTES, WINDOW_SECONDS, Moving
from leasing.service import host_keys


class Counted:
    def __init__(self) -> None:
        self.bytes = 0
        self.now = 0.0
        self.moving = Moving(self._count, clock=lambda: self.now)

    def _count(self, size: int) -> None:
        self.bytes += size


def test_an_open_editor_that_nobody_uses_is_quiet() -> None:
    """Two connections through it, each asking every 5 seconds whether the other end is there, and ssh now and then."""
    made = Counted()
    for second in range(3600):
        made.now = float(second)
        if second % 5 == 0:
            for _ in range(4):
                made.moving.sent(100)
        if second % 60 == 0:
            made.moving.sent(68)
    assert made.bytes == 0


def test_signing_in_is_quiet_and_what_is_copied_is_not() -> None:
    made = Counted()
    for size in (33, 1500, 52, 112, 500, 172):
        made.moving.sent(size)
    assert made.bytes == 0
    for _ in range(10):
        made.moving.sent(32_768)
    assert 10 * 32_768 - QUIET_BYTES < made.bytes <= 10 * 32_768
    made.now += WINDOW_SECONDS
    before = made.bytes
    made.moving.sent(100)
    assert made.bytes == before


def test_what_the_server_tells_counts_by_the_line() -> None:
    made = Counted()
    made.moving.told(b"begun\nty")
    made.moving.told(b"ped\ntyped\n")
    assert made.bytes == 3


def test_host_keys_follow_from_the_lease_and_the_installation() -> None:
    one, other = uuid4(), uuid4()
    assert host_keys.of(b"k" * 32, one).public == host_keys.of(b"k" * 32, one).public
    assert host_keys.of(b"k" * 32, one).public != host_keys.of(b"k" * 32, other).public
    assert host_keys.of(b"k" * 32, one).public != host_keys.of(b"j" * 32, one).public
    assert "PRIVATE" not in repr(host_keys.of(b"k" * 32, one))
