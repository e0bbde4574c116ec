"""What admins do on the server's machine, with a database that is not the platform's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from leasing.cli import host
from leasing.database import create_engine, plain_url
from leasing.errors import HostError

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("docker")]


@pytest.fixture
def folder(database_url: str, state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder whose database somebody else runs."""
    monkeypatch.setenv("LEASING_DATABASE_URL", plain_url(database_url))
    monkeypatch.setenv("LEASING_STATE_DIR", str(state_dir))
    (state_dir / "metrics.token").write_text("secret")
    return state_dir


@pytest.mark.usefixtures("folder")
def test_a_platform_elsewhere_is_seen_by_its_connections(database_url: str, tmp_path: Path) -> None:
    host.backup(str(tmp_path / "backup"))
    api = create_engine(database_url, "leasing-api")
    with api.connect(), pytest.raises(HostError, match="is running"):
        host.restore(str(tmp_path / "backup"))
    api.dispose()
    host.restore(str(tmp_path / "backup"))


def test_a_database_of_one_s_own_is_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host.signin_link(None)
    assert "/signin?secret=" in capsys.readouterr().out
    host.uninstall(yes=True, workspaces=True)
    said = capsys.readouterr().out
    assert "Kept the database of LEASING_DATABASE_URL" in said
    assert not folder.exists()
    host.signin_link("admin")
    assert "/signin?secret=" in capsys.readouterr().out


@pytest.mark.usefixtures("folder")
def test_a_database_that_is_away_is_said_to_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LEASING_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    acts: list[Callable[[], None]] = [
        lambda: host.signin_link(None),
        lambda: host.backup(str(tmp_path / "backup")),
        lambda: host.restore(str(tmp_path / "backup")),
        lambda: host.uninstall(yes=True, workspaces=False),
    ]
    for act in acts:
        with pytest.raises(HostError, match="does not answer"):
            act()
