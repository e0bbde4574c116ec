"""The first thing that happens on a newcomer's machine: a virtual environment out of nothing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from leasing.host import bootstrap
from tests.support import sources

PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "tiny"
version = "1"
[tool.setuptools]
packages = []
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A project with one dependency, in a place with a space in its name."""
    folder = tmp_path / "my checkout"
    (folder / "leasing" / "host").mkdir(parents=True)
    shutil.copy(bootstrap.__file__, folder / "leasing" / "host" / "bootstrap.py")
    pins = (sources.ROOT / "requirements.txt").read_text()
    setuptools = re.search(r"^setuptools==.*?(?=^\S|\Z)", pins, re.MULTILINE | re.DOTALL)
    assert setuptools
    (folder / "requirements.txt").write_text(setuptools[0])
    (folder / "pyproject.toml").write_text(PROJECT)
    return folder


def run(checkout: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(checkout / "leasing" / "host" / "bootstrap.py"), *options]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_environment_is_made_once_and_made_again_when_it_broke(checkout: Path) -> None:
    first = run(checkout)
    assert first.returncode == 0, first.stderr
    assert "Making a virtual environment" in first.stdout
    assert "requirements.txt, pinned by hash" in first.stdout
    python = checkout / ".venv" / "bin" / "python"
    assert subprocess.run([python, "-c", "import setuptools"], check=False).returncode == 0

    second = run(checkout)
    assert (second.returncode, second.stdout) == (0, ""), "nothing is left to do"

    with (checkout / "requirements.txt").open("a") as pins:
        pins.write("# changed\n")
    python.unlink()
    third = run(checkout)
    assert third.returncode == 0, third.stderr
    assert "Removing the old .venv" in third.stdout
    assert python.exists()


def test_wrong_hash_is_refused_and_not_taken_for_done(checkout: Path) -> None:
    pins = (checkout / "requirements.txt").read_text()
    (checkout / "requirements.txt").write_text(re.sub(r"sha256:\w{8}", "sha256:00000000", pins))
    for _ in range(2):
        failed = run(checkout)
        assert failed.returncode == 1
        assert "!! This failed:" in failed.stderr


def test_folder_in_the_way_is_left_alone(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "precious").touch()
    refused = run(checkout)
    assert refused.returncode != 0
    assert "is in the way" in refused.stderr
    assert (checkout / ".venv" / "precious").exists()


def test_missing_venv_package_names_the_command_for_those_who_are_not_root(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SystemExit, match=r"sudo apt-get install python3\.\d+-venv"):
        bootstrap.install_venv_package()
