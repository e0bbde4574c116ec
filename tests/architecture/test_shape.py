"""The house: what lies at the top, how large a file may be, what nothing is called."""

from __future__ import annotations

from tests.support import sources

MOST_LINES = 400
COUNTED = {".py", ".html", ".css", ".js"}
DRAWERS = {"utils", "util", "common", "helpers", "misc"}
TOP_LEVEL = {
    *sources.PACKAGES,
    *("tests", "docs", ".ci"),
    *("Makefile", "README.md", "LICENSE", "pyproject.toml", "alembic.ini", "compose.yaml", "Dockerfile"),
    *("requirements.txt", "requirements-dev.txt", ".gitignore", ".dockerignore"),
}


def test_the_top_level_is_fixed() -> None:
    found = {path.relative_to(sources.ROOT).parts[0] for path in sources.files()}
    assert found <= TOP_LEVEL, f"no place for {found - TOP_LEVEL}"


def test_no_file_is_long() -> None:
    long = {
        sources.name(path): lines
        for path in sources.files()
        if path.suffix in COUNTED and sources.VENDORED not in path.parents
        if (lines := len(path.read_text().splitlines())) > MOST_LINES
    }
    assert not long, f"split these (more than {MOST_LINES} lines): {long}"


def test_no_module_is_a_drawer() -> None:
    drawers = [sources.name(path) for path in sources.python(tests=True) if path.stem in DRAWERS]
    assert not drawers, f"name these after what they do: {drawers}"
