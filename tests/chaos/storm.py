"""The storm: people act and things break, step after step; then all is mended, and the platform has to come to rest."""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from leasing.states import LeaseState
from tests.chaos import deeds, faults
from tests.chaos.deeds import NAMES, People
from tests.chaos.faults import FAULTS, KINDS, Fault, Heal
from tests.chaos.watch import Watch
from tests.chaos.world import World

CONVERGE_SECONDS = 60.0
STEPS = (15, 45)


@dataclass
class Tally:
    """What was done, and how long it took to recover."""

    steps: int = 0
    rounds: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    converged: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    seconds: float = 0.0


class Storm:
    """All that is random comes from one seed, in an order that nothing else decides."""

    def __init__(
        self,
        world: World,
        seed: int,
        say: Callable[[str], None] = lambda _: None,
        patience: float = CONVERGE_SECONDS,
    ) -> None:
        """`patience`: after so many seconds of calm everything has to be in order, on a machine with nothing else to
        do; give more where others work beside it."""
        self._world, self._rng, self._seed, self._say = world, random.Random(seed), seed, say
        self._patience = patience
        self.people = People(world)
        self.watch = Watch.over(world, self.people.ledger)
        self.tally = Tally()
        self._ill: list[tuple[int, str, Heal]] = []
        self._alone = list(FAULTS)
        self._rng.shuffle(self._alone)

    def close(self) -> None:
        self._mend()
        self.people.close()
        self.watch.close()

    def run(self, seconds: float, *, everything: bool = True) -> Tally:
        """Rounds until the time is over, then a clean end. `everything`: each kind of fault is also met alone."""
        began, said = time.monotonic(), 0
        while time.monotonic() - began < seconds:
            self._round(deadline=began + seconds)
            if everything and time.monotonic() - began < seconds:
                self._one_alone()
            self.tally.rounds += 1
            self._say(self._line(time.monotonic() - began))
            for one in self.watch.violations[said:]:
                self._say(f"  step {one.step}: {one.what}")
            said = len(self.watch.violations)
        self._end()
        self.tally.seconds = time.monotonic() - began
        return self.tally

    def every_kind(self, kinds: tuple[str, ...] = KINDS) -> None:
        """Each of these once, in one storm."""
        chosen = {fault.kind: fault for fault in self._alone if fault.kind in kinds}
        faults_left = list(chosen.values())
        while faults_left:
            self._step(faults_left[:2])
            del faults_left[:2]
        self._calm("storm")

    def _round(self, deadline: float) -> None:
        for _ in range(self._rng.randint(*STEPS)):
            count = self._rng.choice([0, 1, 2, 2, 3, 4])
            self._step(self._rng.choices(FAULTS, [fault.weight for fault in FAULTS], k=count))
            if time.monotonic() > deadline:
                break
        self._calm("storm")

    def _step(self, chosen: list[Fault]) -> None:
        self.watch.step = self.tally.steps = self.tally.steps + 1
        drawn = [
            deeds.draw(self._rng, f"{self._seed}-{self.tally.steps}-{number}")
            for number in range(self._rng.randint(1, 5))
        ]
        for deed in drawn:
            self.watch.did(str(deed))
        self.people.act(drawn)
        for fault in chosen:
            self._inflict(fault)
        self._world.supervise()
        self.people.rest(0.5)
        self._recover(self.tally.steps)
        self.watch.look()

    def _inflict(self, fault: Fault) -> None:
        pick, lasts = self._rng.random(), self._rng.randint(1, max(1, fault.lasts))
        self.watch.did(f"FAULT {fault.kind}")
        self.tally.faults[fault.kind] += 1
        heal = fault.inflict(self._world, pick)
        if heal is not faults.nothing:
            self._ill.append((self.tally.steps + lasts, fault.kind, heal))

    def _recover(self, step: int) -> None:
        due = [one for one in self._ill if one[0] <= step]
        self._ill = [one for one in self._ill if one[0] > step]
        for _, kind, heal in due:
            self.watch.did(f"mended {kind}")
            heal()

    def _mend(self) -> None:
        self._recover(10**9)
        self._world.supervise()

    def _calm(self, what: str) -> None:
        """Everything is mended; how long until it shows."""
        self._mend()
        self._clear_devices()
        self.people.rest(deeds.PATIENCE_SECONDS)
        self.people.ask_again()
        self.watch.did(f"all is mended after {what}")
        self.tally.converged[what].append(self.watch.converge(self._patience))
        self.watch.look()

    def _one_alone(self) -> None:
        """One fault in quiet times: how long that kind takes to be over."""
        fault = self._alone[self.tally.rounds % len(self._alone)]
        self._inflict(fault)
        self._world.supervise()
        self.watch.look()
        self._calm(fault.kind)

    def _clear_devices(self) -> None:
        """What an admin does about devices with a fault of their own, which stays until then."""
        for place in self._world.places.values():
            for uuid in place.nvml.uuids:
                self.people.ask("root", "PATCH", f"/devices/{uuid}", json={"clear": True})

    def _end(self) -> None:
        """Everybody goes home: nothing may be left."""
        self._mend()
        self.watch.converge(self._patience)
        for name in NAMES:
            self.people.ask("root", "DELETE", f"/leases/{name}")
        self.watch.did("everything was released")
        self.tally.converged["the end of all leases"].append(self.watch.converge(self._patience))
        picture = self.watch.camera.take()
        if picture is not None:
            boxes = [box for engine in picture.engines.values() for box in engine.boxes]
            left = [box.name for box in boxes if box.labels.get("leasing.role") == "lease"]
            left += [lease["name"] for lease in picture["lease"] if lease["state"] != LeaseState.ENDED]
            self.watch.tell(f"{name} is left at the end" for name in left)

    def _line(self, seconds: float) -> str:
        return (
            f"{seconds:6.0f} s  {self.tally.steps} steps  {sum(self.people.done.values())} operations  "
            f"{self.tally.faults.total()} faults  {len(self.watch.violations)} violations  "
            f"calm in {self.tally.converged['storm'][-1]:.1f} s"
        )
