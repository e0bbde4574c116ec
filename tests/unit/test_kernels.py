"""What endpoints answer when they are asked for notebook kernels."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from uuid import UUID, uuid4

import aiohttp
import pytest
from aiohttp import web

from api.gateway.grants import Target
from api.gateway.kernels import Kernels, busy
from api.gateway.traffic import Counters
from leasing.service.signals import Observation
from tests.support.stack import free_port


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ('[{"id": "1", "execution_state": "busy"}, {"id": "2", "execution_state": "idle"}]', 1),
        ('[{"execution_state": "starting"}]', 1),
        ("[]", 0),
        ('{"message": "Forbidden"}', None),
        ("[1, 2]", None),
        ('[{"name": "x"}]', None),
        ("<html>", None),
        ("[" * 100_000, None),
        ("", None),
    ],
)
def test_only_what_tells_of_kernels_counts(body: str, count: int | None) -> None:
    assert busy(body.encode()) == count


class Asked(Kernels):
    """Keeps what it would write."""

    def __init__(self, targets: list[Target], *, inside: bool = True) -> None:
        super().__init__(self, Counters(), None, inside=lambda _: inside)  # type: ignore[arg-type]  # the part that is used
        self.targets = targets
        self.told: list[Observation] = []

    def listening(self) -> list[Target]:
        return self.targets

    def _write(self, told: Sequence[Observation]) -> None:
        self.told.extend(told)


def target(port: int, lease_id: UUID | None = None) -> Target:
    return Target(lease_id or uuid4(), "nb", uuid4(), uuid4(), False, "running", "", port, "127.0.0.1")


def test_a_notebook_server_is_found_under_its_own_path_and_known_from_then_on() -> None:
    async def main() -> None:
        states, port, seen = ["busy"], free_port(), []

        async def answer(request: web.Request) -> web.Response:
            seen.append(request.path_qs)
            if not states:
                return web.Response(status=403)
            if request.path != "/l/nb/api/kernels":
                return web.Response(status=404)
            return web.Response(text=json.dumps([{"execution_state": one} for one in states]))

        app = web.Application()
        app.router.add_get("/{tail:.*}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        kernels = Asked([target(port)])
        async with aiohttp.ClientSession() as client:

            async def ask() -> list[float]:
                kernels.told.clear()
                for known in kernels._known.values():
                    known.due = 0
                await kernels.look(client)
                return [one.value for one in kernels.told]

            assert await ask() == [1.0]
            assert all("no_track_activity=1" in one for one in seen)
            seen.clear()
            states[:] = ["idle", "idle"]
            assert await ask() == [0.0]
            assert len(seen) == 1
            states.clear()
            assert await ask() == [], "it tells no more, and that is unknown"
            await runner.cleanup()
            assert await ask() == [0.0], "nothing listens, so no kernel works"

    asyncio.run(main())


def test_what_never_was_one_says_nothing_and_addresses_of_others_are_not_asked() -> None:
    async def main() -> None:
        nobody, outside = Asked([target(free_port())]), Asked([target(free_port())], inside=False)
        async with aiohttp.ClientSession() as client:
            await nobody.look(client)
            await outside.look(client)
        assert nobody.told == []
        assert outside._known == {}

    asyncio.run(main())
