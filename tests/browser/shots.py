"""`python -m tests.browser.shots [FOLDER]`: pictures of README and docs taken anew, or of every page into a folder."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.browser.gallery import Gallery, gallery, walk
from tests.support import browser
from tests.support.postgres import TestDatabases, running

IMAGES = Path(__file__).parent.parent.parent / "docs" / "images"
DOCUMENTS = {
    "lease.png": ("light", "/leases/train-llama", "step  5150"),
    "lease-dark.png": ("dark", "/leases/train-llama", "step  5150"),
    "terminal.png": ("light", "/leases/train-llama/terminal", "total 45G"),
    "files.png": ("light", "/leases/train-llama/files?path=/workspace/llama", "train.py"),
}
"""By file: the colours, the page, and what it shows when it is ready."""
WINDOW = {"width": 1200, "height": 780}


def main(folder: str | None = None) -> None:
    with tempfile.TemporaryDirectory(prefix="leasing-shots-") as scratch:
        state = Path(scratch)
        state.chmod(0o711)
        with (
            running(state / "postgres") as server,
            TestDatabases(server).migrated() as url,
            gallery(url, state) as shown,
        ):
            if folder is None:
                for_documents(shown)
            else:
                of_everything(shown, Path(folder))


def for_documents(shown: Gallery) -> None:
    """Those of README and docs."""
    IMAGES.mkdir(exist_ok=True)
    with browser.chromium() as chromium:
        for name, (scheme, path, ready) in DOCUMENTS.items():
            with browser.tab(
                chromium, shown.url, **shown.options() | {"viewport": WINDOW, "color_scheme": scheme}
            ) as tab:
                page = tab.open(path)
                page.get_by_text(ready).first.wait_for()
                page.screenshot(path=IMAGES / name)


def of_everything(shown: Gallery, folder: Path) -> None:
    """Each page at a desk in both colours, and on a phone."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds: dict[str, dict[str, Any]] = {
        "light": {"color_scheme": "light"},
        "dark": {"color_scheme": "dark"},
        "phone": {"viewport": browser.PHONE},
    }
    with browser.chromium() as chromium:
        for kind, options in kinds.items():
            with browser.tab(chromium, shown.url, **shown.options() | options) as tab:
                tab.allow("404", "422")
                for name, page in walk(tab):
                    page.wait_for_timeout(200)  # what a lease prints comes after the page
                    page.screenshot(path=folder / f"{name}-{kind}.png", full_page=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
