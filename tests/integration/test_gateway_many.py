"""Ten thousand sockets at once, on loopback: held, while who asks on some of them and who comes besides is served."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
from textwrap import dedent

import pytest

from tests.support.planes import TOKEN, opened, status
from tests.support.rooted import rooted

MANY = 10_000
SPARE = 1_000
"""Files that this process has open besides."""

CALLERS = dedent(
    """
    import asyncio, resource, sys, uvloop

    port, many, token = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    HEAD = f"Host: gate\\r\\nAuthorization: Bearer {token}\\r\\n\\r\\n"
    ASK = f"GET /l/app/api/data HTTP/1.1\\r\\n{HEAD}".encode()

    class Caller(asyncio.Protocol):
        def __init__(self):
            self.answers = 0
        def connection_made(self, transport):
            self.transport = transport
        def data_received(self, data):
            self.answers += data.count(b"HTTP/1.1 200 OK")
        def connection_lost(self, error):
            self.answers = -1

    async def settle(callers, answers):
        for _ in range(3000):
            if all(one.answers == answers for one in callers):
                return
            await asyncio.sleep(0.005)

    async def ask(callers, answers):
        for at in range(0, len(callers), 100):
            for one in callers[at : at + 100]:
                one.transport.write(ASK)
            await settle(callers[at : at + 100], answers)
        print(sum(one.answers == answers for one in callers), flush=True)

    async def main():
        loop, room, callers = asyncio.get_running_loop(), asyncio.Semaphore(200), []
        async def come():
            async with room:
                _, one = await loop.create_connection(Caller, "127.0.0.1", port)
                callers.append(one)
        await asyncio.gather(*(come() for _ in range(many)))
        await ask(callers[::5], 1)
        await loop.run_in_executor(None, sys.stdin.readline)
        await ask(callers[::5], 2)
        print(sum(one.answers >= 0 for one in callers), flush=True)

    uvloop.run(main())
    """
)


@pytest.mark.timeout(120)
def test_ten_thousand_sockets() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < MANY + SPARE:
        pytest.skip(f"this machine allows {hard} open files (ulimit -Hn), which takes {MANY + SPARE}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with (
            rooted() as application,
            opened(application.port, keep_seconds=100, header_seconds=100, connections=MANY + 10) as gate,
        ):
            callers = subprocess.Popen(
                [sys.executable, "-c", CALLERS, str(gate.port), str(MANY), TOKEN],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            assert callers.stdout is not None
            assert callers.stdin is not None
            try:
                assert int(callers.stdout.readline()) == MANY // 5, "who asks has its answer"
                assert status(gate.ask("GET /l/app/api/data")) == 200, "who comes besides is served"
                assert len(gate.plane.live) == 0, "who only waits costs no call"
                callers.stdin.write("again\n")
                callers.stdin.flush()
                assert int(callers.stdout.readline()) == MANY // 5
                assert int(callers.stdout.readline()) == MANY, "and all have their connections"
                # a change of the grants reaches all that is under way, and there is time for the rest meanwhile
                assert (
                    asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "alive"), gate.lives).result(5)
                    == "alive"
                )
                gate.allow(("another", gate.visitor))
                assert status(gate.ask("GET /l/app/api/data")) == 401
                assert gate.count.requests == 2 * MANY // 5 + 1
            finally:
                callers.kill()
                callers.communicate()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
