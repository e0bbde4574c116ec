"""What `lease config-ssh` does to a user's SSH configuration, and what it leaves alone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from leasing.cli import ssh_config

OWN = "Host *\n    ServerAliveInterval 60\n    User me\n\nHost gate\n    Port 2222\n"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "a home"
    made.mkdir()
    monkeypatch.setenv("HOME", str(made))
    monkeypatch.setenv("LEASING_CONFIG_DIR", str(made / "conf"))
    return made


def effective(home: Path, host: str) -> dict[str, str]:
    """What ssh itself makes of it."""
    said = subprocess.run(
        ["ssh", "-G", "-F", str(home / ".ssh/config"), host], check=True, capture_output=True, text=True
    ).stdout
    return dict(line.partition(" ")[::2] for line in said.splitlines())


def test_ssh_reads_it_before_what_the_user_has_and_for_leases_only(home: Path) -> None:
    (home / ".ssh").mkdir()
    (home / ".ssh/config").write_text(OWN)
    assert ssh_config.install()
    found = effective(home, "train.lease")
    assert (found["user"], found["serveraliveinterval"], found["stricthostkeychecking"]) == (
        "lease",
        "0",
        "true",
    )
    assert found["proxycommand"].endswith("ssh-proxy %h")
    assert str(home / "conf/ssh/known_hosts") in found["userknownhostsfile"]
    other = effective(home, "gate")
    assert (other["user"], other["serveraliveinterval"], other["port"]) == ("me", "60", "2222")
    assert "proxycommand" not in other
    assert (home / ".ssh/config").stat().st_mode & 0o777 == 0o600


def test_twice_changes_nothing_and_removing_gives_back_what_was_there(home: Path) -> None:
    (home / ".ssh").mkdir()
    config = home / ".ssh/config"
    config.write_text(OWN)
    assert ssh_config.install()
    once = config.read_text()
    assert not ssh_config.install()
    assert config.read_text() == once
    assert ssh_config.uninstall()
    assert config.read_text() == OWN
    assert not ssh_config.file().exists()
    assert not ssh_config.uninstall()


def test_who_had_no_configuration_has_none_afterwards(home: Path) -> None:
    assert ssh_config.install()
    assert (home / ".ssh").stat().st_mode & 0o777 == 0o700
    assert ssh_config.uninstall()
    assert list((home / ".ssh").iterdir()) == []


def test_a_configuration_that_is_a_link_stays_one(home: Path) -> None:
    (home / ".ssh").mkdir()
    (home / "dotfiles").mkdir()
    (home / "dotfiles/ssh").write_text(OWN)
    (home / ".ssh/config").symlink_to(home / "dotfiles/ssh")
    ssh_config.install()
    assert (home / ".ssh/config").is_symlink()
    assert (home / "dotfiles/ssh").read_text().endswith(OWN)
    ssh_config.uninstall()
    assert (home / "dotfiles/ssh").read_text() == OWN


def test_the_key_is_openssh_s_and_made_once(home: Path) -> None:
    ssh_config.prepare()
    key = home / "conf/ssh/key"
    assert key.stat().st_mode & 0o777 == 0o600
    said = subprocess.run(
        ["ssh-keygen", "-y", "-f", str(key)], check=True, capture_output=True, text=True
    ).stdout
    assert said.strip() == ssh_config.public_key()
    ssh_config.prepare()
    assert said.strip() == ssh_config.public_key()


def test_a_host_s_key_is_replaced_and_nobody_else_s(home: Path) -> None:
    ssh_config.know("a.lease", "ssh-ed25519 AAAA")
    ssh_config.know("b.lease", "ssh-ed25519 BBBB")
    ssh_config.know("a.lease", "ssh-ed25519 CCCC")
    ssh_config.know("a.lease", "ssh-ed25519 CCCC")
    assert (
        home / "conf/ssh/known_hosts"
    ).read_text() == "b.lease ssh-ed25519 BBBB\na.lease ssh-ed25519 CCCC\n"
