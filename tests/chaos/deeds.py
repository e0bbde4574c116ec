"""What people do, at random: ask, release, extend, suspend, resume; also wrongly, twice, and with each other's."""

from __future__ import annotations

import random
import threading
import zlib
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx

from tests.chaos.world import PEOPLE, World
from tests.support.images import BUSYBOX

NAMES = tuple(f"c-{number}" for number in range(14))
"""Few, so that they are used again and again."""
PORT = 8000
# It says who it is, and what it found of files that it made when it first ran.
SERVE = f"""
set -e; mkdir -p /tmp/www; cd /tmp/www; echo "$LEASE_ID" >id
mark() {{ [ -s "$1" ] || {{ head -c 12 /dev/urandom | base64 >"$1.new" && mv "$1.new" "$1"; }}; cp "$1" "$2"; }}
mark "$HOME/first" first; mark /workspace/marker workspace
exec httpd -f -p {PORT}
"""
COMMANDS = (["sh", "-c", SERVE],) * 8 + (["sleep", "600"], ["sleep", "2"], ["false"], ["no-such-program"])
KINDS = {"ask": 10, "release": 5, "renew": 2, "suspend": 3, "resume": 4, "look": 2, "wrong": 1, "meddle": 1}
PATIENCE_SECONDS = 20.0


@dataclass(frozen=True)
class Deed:
    """One thing that somebody does. Which follows from the seed alone; what comes of it does not."""

    who: str
    kind: str
    name: str
    key: str
    wishes: dict[str, Any] = field(default_factory=dict)
    twice: bool = False

    def __str__(self) -> str:
        asked = {k: v for k, v in self.wishes.items() if k in ("gpu", "ttl", "workspace", "idle_timeout")}
        return f"{self.who} {self.kind} {self.name}{' ' + str(asked) if asked else ''}{' twice' if self.twice else ''}"


def draw(rng: random.Random, key: str) -> Deed:
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    who, name = rng.choice(PEOPLE), rng.choice(NAMES)
    wishes: dict[str, Any] = {}
    if kind == "ask":
        wishes = _wishes(rng, who)
    elif kind == "wrong":
        wishes = rng.choice(WRONG)
    elif kind == "renew":
        wishes = {"ttl": rng.choice(["1m", "1h", "400d", "nonsense"])}
    return Deed(who, kind, name, key, wishes, twice=rng.random() < 0.1)


def _wishes(rng: random.Random, who: str) -> dict[str, Any]:
    command = rng.choice(COMMANDS)
    wishes: dict[str, Any] = {
        "image": BUSYBOX if rng.random() < 0.97 else "leasing-test/absent:1",
        "command": command, "cpus": rng.choice(["0.05", "0.1"]), "memory": "32M",
        "gpu": rng.choice(["0", "0", "1", "1", "2", "0.5", "8GB"]), "ttl": rng.choice(["1m", "10m", "1h", "1h"]),
        "preemptible": rng.random() < 0.15, "priority": rng.choice(["normal"] * 5 + ["low"]),
    }  # fmt: skip
    if "-c" in command:
        wishes["port"] = PORT
    if rng.random() < 0.3:
        wishes["workspace"] = f"{who}-{rng.randrange(2)}"
    if rng.random() < 0.2:
        wishes["idle_timeout"] = rng.choice(["never", "1m", "30m"])
    if rng.random() < 0.15:
        wishes["node"] = rng.choice(["one", "two", "nowhere"])
    return wishes


WRONG: tuple[dict[str, Any], ...] = (
    {"gpu": "many"}, {"memory": "-1"}, {"ttl": "1h", "until": "2020-01-01T00:00:00Z"}, {"cpus": "1e9"},
    {"gpu": "999"}, {"env": {"NVIDIA_VISIBLE_DEVICES": "all"}}, {"command": ["a\0b"]}, {"port": 0}, {"nonsense": 1},
    {"until": "2020-01-01T00:00:00Z"}, {"project": "nobody's"}, {"workspace": "../../etc"}, {"image": "-v /:/host"},
)  # fmt: skip


@dataclass
class Ledger:
    """What was promised in answers: it has to hold, whatever happens afterwards."""

    made: dict[UUID, tuple[str, str]] = field(default_factory=dict)
    """Lease -> who asked for it under which name."""
    released: set[UUID] = field(default_factory=set)
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class People:
    """Act side by side against the api, whether it is there or not."""

    def __init__(self, world: World) -> None:
        self._pool = ThreadPoolExecutor(8)
        self._lock = threading.Lock()
        self._clients = {
            who: httpx.Client(
                base_url=f"{world.api}/api/v1", headers={"Authorization": f"Bearer {token}"}, trust_env=False,
                timeout=PATIENCE_SECONDS,
            )
            for who, token in world.tokens.items()
        }  # fmt: skip
        self._busy: set[Future[None]] = set()
        self._unanswered: list[Deed] = []
        self.ledger = Ledger()
        self.done: Counter[str] = Counter()

    def close(self) -> None:
        self.rest(PATIENCE_SECONDS)
        self._pool.shutdown(cancel_futures=True)
        for client in self._clients.values():
            client.close()

    def act(self, deeds: list[Deed]) -> None:
        """Begin; see `rest` for the end."""
        for deed in deeds:
            self.done[deed.kind] += 1
            for _ in range(2 if deed.twice else 1):
                self._busy.add(self._pool.submit(self._do, deed))

    def ask_again(self) -> None:
        """As a client does that had no answer: whether the first was taken in or not, there is one lease."""
        with self._lock:
            again, self._unanswered = self._unanswered, []
        self.act(again)

    def rest(self, seconds: float) -> None:
        """Until everything that was begun is answered, and so long at most."""
        done, self._busy = wait(self._busy, seconds)
        for future in done:
            future.result()

    def ask(self, who: str, method: str, path: str, **facts: Any) -> httpx.Response | None:
        """Its answer; None where nobody answers."""
        try:
            return self._clients[who].request(method, path, **facts)
        except httpx.TransportError:
            return None

    def _do(self, deed: Deed) -> None:
        ref = f"/leases/{deed.name}"
        match deed.kind:
            case "ask" | "wrong":
                body = {"name": deed.name, **deed.wishes}
                answer = self.ask(
                    deed.who, "POST", "/leases", json=body, headers={"Idempotency-Key": deed.key}
                )
            case "release":
                answer = self.ask(deed.who, "DELETE", ref)
            case "meddle":  # somebody else's as likely as not, and by an id that there is not
                answer = self.ask(deed.who, "DELETE", f"/leases/{UUID(int=zlib.crc32(deed.key.encode()))}")
            case "look":
                answer = self.ask(deed.who, "GET", f"{ref}/why")
            case kind:
                answer = self.ask(deed.who, "POST", f"{ref}/{kind}", json=deed.wishes or None)
        self._note(deed, answer)

    def _note(self, deed: Deed, answer: httpx.Response | None) -> None:
        with self._lock:
            self.ledger.answers[
                f"{deed.kind} {answer.status_code if answer is not None else 'unanswered'}"
            ] += 1
            if deed.kind == "ask" and (answer is None or answer.status_code == 503):
                self._unanswered.append(deed)
            if answer is None:
                return
            if answer.status_code == 500:
                self.ledger.wrong.append(f"{deed}: the api answered 500: {answer.text[:300]}")
            if deed.kind == "wrong" and answer.status_code < 300:
                self.ledger.wrong.append(f"{deed}: nonsense was accepted")
            if answer.status_code >= 300 or deed.kind not in ("ask", "release"):
                return
            lease_id = UUID(answer.json()["id"])
            if deed.kind == "release":
                self.ledger.released.add(lease_id)
                return
            known = self.ledger.made.setdefault(lease_id, (deed.who, deed.name))
            if known != (deed.who, deed.name):
                self.ledger.wrong.append(f"{deed}: answered with the lease of {known}")
