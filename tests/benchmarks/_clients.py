"""Clients that cost next to nothing: one thread, plain sockets, and the notifications of what was committed."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import defaultdict
from typing import Any

from leasing.database import EVENTS, Listener
from tests.benchmarks._memory import Platform
from tests.support.cluster import IMAGE

ASK = json.dumps({"image": IMAGE, "gpu": "1", "cpus": "0.1", "memory": "64M", "ttl": "1h"}).encode()


class Watch:
    """What has become of which lease, as the commits announce it. Made in the loop in which it is waited for."""

    def __init__(self, url: str) -> None:
        self._listener = Listener(url, EVENTS, "leasing-benchmark")
        self._happened: defaultdict[tuple[str, str], asyncio.Event] = defaultdict(asyncio.Event)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._listen)

    async def start(self) -> None:
        self._thread.start()
        await self.wait("", "")

    async def wait(self, lease: str, kind: str) -> None:
        async with asyncio.timeout(30):
            await self._happened[lease, kind].wait()

    def stop(self) -> None:
        self._listener.stop()
        self._thread.join()

    def _listen(self) -> None:
        for payload in self._listener.payloads():
            lease, _, kind = payload.partition(":")
            self._loop.call_soon_threadsafe(self._happen, lease, kind)

    def _happen(self, lease: str, kind: str) -> None:
        self._happened[lease, kind].set()


class Client:
    """A user with one connection that is kept."""

    def __init__(self, platform: Platform, number: int) -> None:
        self._port = platform.port
        self._head = f"Host: 127.0.0.1\r\nAuthorization: Bearer {platform.tokens[number]}\r\n"

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)

    def close(self) -> None:
        self._writer.close()

    async def call(self, method: str, path: str, body: bytes = b"") -> Any:
        length = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
        self._writer.write(f"{method} /api/v1{path} HTTP/1.1\r\n{self._head}{length}\r\n".encode() + body)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        size = int(head.partition("content-length:")[2].partition("\r\n")[0])
        answer = await self._reader.readexactly(size)
        assert head.split(" ", 2)[1] in ("200", "201"), answer
        return json.loads(answer)

    async def cycle(self, watch: Watch) -> str:
        """Ask, wait until it runs, give it back, wait until it is over; the lease's id."""
        lease: str = (await self.call("POST", "/leases", ASK))["id"]
        await watch.wait(lease, "lease.running")
        await self.call("DELETE", f"/leases/{lease}")
        await watch.wait(lease, "lease.ended")
        return lease


async def cycles(platform: Platform, *, clients: int, seconds: float) -> float:
    """Cycles a second of so many clients at once."""
    crew = [Client(platform, number) for number in range(clients)]
    for one in crew:
        await one.open()
    loop = asyncio.get_running_loop()

    async def work(client: Client) -> int:
        done = 0
        while loop.time() - began < seconds:
            await client.cycle(watch)
            done += 1
        return done

    watch = Watch(platform.postgres.url)
    await watch.start()
    began = loop.time()
    done = sum(await asyncio.gather(*(work(one) for one in crew)))
    took = loop.time() - began
    watch.stop()
    for one in crew:
        one.close()
    return done / took
