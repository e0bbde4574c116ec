"""`python -m leasing.host setup`, as `make` calls it."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from leasing.host.__main__ import main
from leasing.host.setup import Telling
from tests.support.unprivileged import as_nobody

root_only = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root may set the machine up, or become somebody else"
)


@root_only
@pytest.mark.docker
@pytest.mark.xdist_group("docker")
def test_a_machine_that_is_ready_is_told_so_step_by_step() -> None:
    command = [sys.executable, "-m", "leasing.host", "setup", "--for-tests"]
    subprocess.run(command, check=True, capture_output=True)
    again = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert re.fullmatch(
        r"  Programs for the tests … found, \d+\.\d s\n"
        r"  Docker Engine … found \d+\.\S+, \d+\.\d s\n"
        r"  Firewall … applied, in place, \d+\.\d s\n"
        r"  Base environment … found leasing/base:\w{12}, \d+\.\d s\n"
        r"  SSH into leases … found leasing/ssh:\w{12}, \d+\.\d s\n",
        again,
    ), again


@root_only
@pytest.mark.docker
def test_without_the_right_to_use_the_engine_setup_stops_with_the_way_out(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert as_nobody(lambda: main(["setup"])) == "1"
    said = capfd.readouterr().err
    assert "Error: This user may not use the Docker Engine" in said
    assert "sudo usermod -aG docker" in said


def test_an_unknown_command_names_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sett-up"]) == 1
    assert "python -m leasing.host setup" in capsys.readouterr().err


def test_a_terminal_sees_one_line_that_changes(capsys: pytest.CaptureFixture[str]) -> None:
    telling = Telling("Base environment", live=True)
    telling("Step 4/13 : RUN set -eu; \\\n   apt-get")
    telling.end("Base environment … built, 3.0 s")
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert out.startswith("\r\033[K  Base environment … Step 4/13 : RUN set -eu; \\ apt-get\r\033[K")


def test_a_log_gets_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    times = iter([0.0, 0.0, 4.0, 11.0, 11.0])
    telling = Telling("Base environment", live=False, clock=lambda: next(times))
    for text in ("one", "two", "three"):
        telling(text)
    assert capsys.readouterr().out.splitlines() == ["  Base environment … one", "  Base environment … three"]
