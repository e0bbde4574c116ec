"""Dependencies are pinned by hash, and nothing in the project names the machine it was made on."""

from __future__ import annotations

import re
import tomllib
from itertools import chain

import pytest

from tests.support import sources

LOCKS = ("requirements.txt", "requirements-dev.txt")
REQUIREMENT = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==(\S+)", re.MULTILINE)
NAME = re.compile(r"^[A-Za-z0-9._-]+")

# In pieces, or this file would name them too.
NOWHERE = (
    "/" + "work/",
    "pypi" + ".org",
    "python" + "hosted.org",
    "registry." + "npmjs",
    "golang" + ".org/proxy",
)


def pins(lock: str) -> dict[str, str]:
    return {_plain(name): version for name, version in REQUIREMENT.findall((sources.ROOT / lock).read_text())}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_its_hashes(lock: str) -> None:
    blocks = re.split(r"\n(?=\S)", (sources.ROOT / lock).read_text())
    for block in blocks:
        if not block.lstrip().startswith("#"):
            assert REQUIREMENT.match(block), f"not pinned: {block.splitlines()[0]}"
            assert "--hash=sha256:" in block, f"no hash: {block.splitlines()[0]}"


def test_locks_agree() -> None:
    run, dev = (pins(lock) for lock in LOCKS)
    assert run.items() <= dev.items(), "the tests would run on other versions than the server: make lock"


def test_locks_hold_what_the_project_asks_for() -> None:
    project = tomllib.loads((sources.ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    for asked, lock in (
        (chain(project["project"]["dependencies"], groups["build"]), LOCKS[0]),
        (groups["dev"], LOCKS[1]),
    ):
        names = {_plain(match[0]) for requirement in asked if (match := NAME.match(requirement))}
        assert names <= pins(lock).keys(), f"run `make lock`: {names - pins(lock).keys()} not in {lock}"


def test_no_file_names_a_package_index_or_a_private_path() -> None:
    named = [
        f"{sources.name(path)}: {word}" for path, text in sources.texts() for word in NOWHERE if word in text
    ]
    assert not named, f"these hold only on one machine: {named}"


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
