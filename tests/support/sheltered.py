"""A network of its own for a browser, in which nothing ever changes, with one way out: to this machine's loopback.

Chromium breaks off what it loads (`ERR_NETWORK_CHANGED`) whenever an address of its machine comes or goes, which each
lease's start and end does. No switch turns that off.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.network import OwnNetwork

CONNECT = b"\x05\x01\x00\x03"
"""SOCKS 5 (RFC 1928, 4): connect to the host and port that follow. Chromium sends addresses as names, too."""
CONNECTED, REFUSED = (b"\x05" + code + b"\x00\x01" + bytes(6) for code in (b"\x00", b"\x05"))


@contextmanager
def sheltered(chromium: str) -> Iterator[tuple[str, list[str]]]:
    """A program that starts Chromium in there, and the arguments by which it finds the way out. Needs root."""
    with closing(OwnNetwork()) as network, TemporaryDirectory(prefix="leasing-chromium-") as folder:
        listening, namespace = network(_furnish)
        inside = Path(folder) / "chromium"
        inside.write_text(f'#!/bin/sh\nexec nsenter --net={namespace} {chromium} "$@"\n')
        inside.chmod(0o755)
        with _passing(listening):
            port = listening.getsockname()[1]
            yield (
                str(inside),
                [f"--proxy-server=socks5://127.0.0.1:{port}", "--proxy-bypass-list=<-loopback>"],
            )


def _furnish() -> tuple[socket.socket, str]:
    # With the loopback alone, Chromium would take itself for offline.
    _ip("link set lo up")
    _ip("link add up0 type veth peer name up1")
    for link in ("up0", "up1"):
        with suppress(subprocess.CalledProcessError):  # a kernel without IPv6
            _ip(f"link set {link} addrgenmode none")  # IPv6 would give it an address a second later: a change
        _ip(f"link set {link} up")
    _ip("address add 10.255.255.1/32 dev up0")
    return socket.create_server(
        ("127.0.0.1", 0)
    ), f"/proc/{os.getpid()}/task/{threading.get_native_id()}/ns/net"


def _ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True, capture_output=True)


@contextmanager
def _passing(listening: socket.socket) -> Iterator[None]:
    begun: Future[Callable[[], object]] = Future()
    thread = threading.Thread(target=lambda: asyncio.run(_serve(listening, begun)))
    thread.start()
    end = begun.result(10)
    try:
        yield
    finally:
        end()
        thread.join()


async def _serve(listening: socket.socket, begun: Future[Callable[[], object]]) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    passing: set[asyncio.Task[None]] = set()  # nobody else holds one whose caller says no more

    def come(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_pass(reader, writer))
        passing.add(task)
        task.add_done_callback(passing.discard)

    server = await asyncio.start_server(come, sock=listening)
    begun.set_result(lambda: loop.call_soon_threadsafe(ended.set))
    await ended.wait()
    server.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, EOFError, asyncio.CancelledError), closing(writer):
        await reader.readexactly((await reader.readexactly(2))[1])  # the ways to sign in that it knows
        writer.write(b"\x05\x00")  # none is needed
        try:
            from_there, to_there = await asyncio.open_connection(*await _asked(reader))
        except OSError:
            writer.write(REFUSED)
            raise
        with closing(to_there):
            writer.write(CONNECTED)
            ways = [asyncio.create_task(way) for way in (_copy(reader, to_there), _copy(from_there, writer))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)


async def _asked(reader: asyncio.StreamReader) -> tuple[str, int]:
    """Raises `OSError` for what is not the loopback."""
    command = await reader.readexactly(4)
    host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
    port = int.from_bytes(await reader.readexactly(2))
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761: these always mean the loopback
        host = "127.0.0.1"
    if command != CONNECT or not host.startswith("127."):
        raise ConnectionRefusedError
    return host, port


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(1 << 16):
        writer.write(piece)
        await writer.drain()
