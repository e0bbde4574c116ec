"""The project's own files, for tests about the code itself."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
VENDORED = ROOT / "web" / "static" / "vendor"
PACKAGES = ("leasing", "api", "scheduler", "images", "migrations", "monitoring", "web")


@cache
def files() -> tuple[Path, ...]:
    """Every file that git keeps, or would keep once added."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    paths = (ROOT / name for name in listed.split("\0") if name)
    return tuple(path for path in paths if path.is_file())


def python(*, tests: bool) -> Iterator[Path]:
    """Our Python files, those of the tests only if asked for."""
    for path in files():
        if path.suffix == ".py" and (tests or path.relative_to(ROOT).parts[0] in PACKAGES):
            yield path


def texts() -> Iterator[tuple[Path, str]]:
    """Every file that is text, with its text."""
    for path in files():
        try:
            yield path, path.read_text()
        except UnicodeDecodeError:
            continue


def name(path: Path) -> str:
    """As people write it: relative to the checkout."""
    return str(path.relative_to(ROOT))
