"""Threads beside a server."""

from __future__ import annotations

import threading

import pytest

from api.background import beside


def full() -> None:
    raise OSError(28, "No space left on device")


def test_a_server_ends_when_a_thread_beside_it_dies_so_that_it_is_started_anew() -> None:
    stop = threading.Event()
    with (
        pytest.raises(RuntimeError, match=r"threads died: writer$"),
        beside(stop, writer=full, reader=stop.wait),
    ):
        assert stop.wait(10), "the server is told"


def test_a_thread_that_fails_while_the_server_ends_does_not_fail_it() -> None:
    stop = threading.Event()

    def late() -> None:
        stop.wait()
        full()

    with beside(stop, writer=late):
        stop.set()
