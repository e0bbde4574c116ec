"""What apt is asked, and what a machine says that has no apt, no root or no network."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from leasing.errors import HostError
from leasing.host import packages


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An apt-get that writes down what it is asked and whether services may start meanwhile, and obeys `fails`."""
    script = tmp_path / "apt-get"
    script.write_text(
        f'#!/bin/sh\necho "$@ policy=$(test -x {tmp_path}/policy && {tmp_path}/policy; echo $?)" >> {tmp_path}/asked\n'
        f"test ! -e {tmp_path}/fails || {{ echo 'E: Unable to fetch' >&2; exit 100; }}\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(packages, "PATH", str(tmp_path))
    monkeypatch.setattr(packages, "POLICY", tmp_path / "policy")
    monkeypatch.setattr(packages, "systemd", lambda: False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return tmp_path


def test_only_what_is_absent_is_missing(apt: Path) -> None:
    (apt / "gcc").touch(mode=0o755)
    assert packages.missing({"gcc": ["gcc", "libc6-dev"], "promtool": ["prometheus"]}) == ["prometheus"]


def test_packages_come_after_fresh_lists_and_start_no_service(apt: Path) -> None:
    said: list[str] = []
    packages.install(["prometheus"], said.append)
    lists, install = (apt / "asked").read_text().splitlines()
    assert " update " in lists
    assert install.endswith("install -y -qq --no-install-recommends prometheus policy=101")
    assert not (apt / "policy").exists(), "the machine's services are its own again"
    assert said[-1] == "installing prometheus"


def test_a_policy_that_the_machine_has_already_is_left_alone(apt: Path) -> None:
    (apt / "policy").write_text("#!/bin/sh\nexit 0\n")
    packages.install(["tini"], lambda _: None)
    assert (apt / "policy").read_text() == "#!/bin/sh\nexit 0\n"


def test_a_failure_shows_what_apt_said_and_leaves_no_policy(apt: Path) -> None:
    (apt / "fails").touch()
    with pytest.raises(HostError, match=r"Unable to fetch.*sudo apt-get update"):
        packages.install(["tini"], lambda _: None)
    assert not (apt / "policy").exists()


def test_without_root_the_command_is_named(apt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(HostError, match=r"sudo apt-get install gcc libc6-dev"):
        packages.install(["gcc", "libc6-dev"], lambda _: None)
    assert not (apt / "asked").exists()


def test_another_distribution_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "PATH", str(tmp_path))
    with pytest.raises(HostError, match=r"no apt-get"):
        packages.install(["tini"], lambda _: None)


def test_nothing_missing_asks_nothing(apt: Path) -> None:
    packages.install([], lambda _: None)
    assert not (apt / "asked").exists()
