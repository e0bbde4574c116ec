"""What the command line's tests stand on: a home of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

AWAY = "http://127.0.0.1:1"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LEASING_CONFIG_DIR", str(tmp_path))
    for name in ("LEASING_URL", "LEASING_TOKEN", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("leasing.sdk.client.AGAIN_SECONDS", 0)
    return tmp_path


@pytest.fixture
def signed_in(home: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("LEASING_URL", AWAY)
    monkeypatch.setenv("LEASING_TOKEN", "lse_any")
    return monkeypatch
