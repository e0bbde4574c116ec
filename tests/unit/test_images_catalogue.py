"""The catalogue: what there is, and what a user's word for an image means."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from images import catalogue
from leasing.errors import HostError

ENTRY = 'title = "T"\ndescription = "D"\nsmoke = "true"\n'


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A catalogue of two environments, one built on the other."""
    for name, extra in (("small", ""), ("large", 'from = "small"\nport = 8888\n')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "Dockerfile").write_text(f"FROM scratch\n# {name}\n")
        (tmp_path / name / "environment.toml").write_text(ENTRY + extra)
    monkeypatch.setattr(catalogue, "ROOT", tmp_path)
    catalogue.load.cache_clear()
    yield tmp_path
    catalogue.load.cache_clear()


def reference(name: str) -> str:
    catalogue.load.cache_clear()
    return catalogue.load()[name].reference


def test_our_own_catalogue_reads_and_its_parents_are_in_it() -> None:
    found = catalogue.load()
    assert {"base", "pytorch"} <= set(found)
    for environment in found.values():
        assert environment.parent is None or environment.parent in found
        assert (environment.folder / "Dockerfile").is_file()


def test_a_name_means_the_environment_and_anything_else_a_registry_s_image(root: Path) -> None:
    assert catalogue.resolve("large").reference == reference("large")
    assert catalogue.resolve("large").environment is not None
    for image in ("python:3.12", "ghcr.io/team/tool@sha256:" + "0" * 64, "Large"):
        assert catalogue.resolve(image) == catalogue.Resolved(image, None)


def test_the_tag_follows_the_content(root: Path) -> None:
    small, large = reference("small"), reference("large")
    assert small.startswith("leasing/small:")
    assert (reference("small"), reference("large")) == (small, large), "the same content, the same tag"

    (root / "large" / "Dockerfile").write_text("FROM scratch\n# changed\n")
    assert reference("small") == small
    assert reference("large") not in (large, small)

    changed = reference("large")
    (root / "small" / "new.conf").write_text("x")
    assert reference("small") != small
    assert reference("large") != changed, "what it builds on is part of it"


@pytest.mark.parametrize("text", ["title = ", 'title = "no more"\n'])
def test_an_entry_that_cannot_be_read_names_its_file(root: Path, text: str) -> None:
    (root / "small" / "environment.toml").write_text(text)
    catalogue.load.cache_clear()
    with pytest.raises(HostError, match=r"small/environment\.toml"):
        catalogue.load()
