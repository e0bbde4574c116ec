"""Parts that are kept alive: real processes, and a clock of the test's own."""

from __future__ import annotations

import shutil
from pathlib import Path

from leasing.host.supervisor import Child, Supervisor


def lives(part: Child) -> bool:
    return part.process is not None and part.process.poll() is None


def test_a_part_that_cannot_be_started_is_tried_again_and_the_others_stay(tmp_path: Path) -> None:
    """Here its program is missing; a machine without room for one process more refuses in the same way."""
    sleep, program, clock = Path(shutil.which("sleep") or ""), tmp_path / "program", 0.0
    part, other = Child("part", [str(program), "600"], {}), Child("other", [str(sleep), "600"], {})
    supervisor = Supervisor([part, other], clock=lambda: clock)
    program.symlink_to(sleep)
    try:
        supervisor.tick()
        first, kept = part.process, other.process
        assert first is not None
        program.unlink()
        first.kill()
        first.wait()
        clock = 3600.0
        for _ in range(600):
            supervisor.tick()
            assert not lives(part)
            clock += 0.2
        assert 3 <= supervisor.restarts["part"] <= 10, "it is tried ever more seldom"
        program.symlink_to(sleep)
        clock += 30.0
        supervisor.tick()
        assert lives(part)
        assert lives(other)
        assert other.process is kept
    finally:
        supervisor.stop(10.0)
