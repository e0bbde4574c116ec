"""What every test stands on: a clean environment and, where asked for, a real PostgreSQL."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import settings
from sqlalchemy.orm import Session

from leasing.database import create_engine
from leasing.host.postgres import OwnPostgres
from tests.support import scratch
from tests.support.postgres import TestDatabases, running

_HOME = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Before anything is imported by a test: no setting, token or file of the user's is in reach."""
    settings.register_profile("leasing", deadline=None)  # that a machine is busy is no failure
    settings.load_profile("leasing")
    home = Path(tempfile.mkdtemp(prefix="leasing-test-home-"))
    config.stash[_HOME] = home
    for name in list(os.environ):
        if name.startswith(("LEASING_", "XDG_")):
            del os.environ[name]
    os.environ["HOME"] = str(home)
    os.environ["XDG_CONFIG_HOME"] = str(home / ".config")


def pytest_collection_finish() -> None:
    """What is loaded by now stays: else every look for garbage walks through all of it, thousands of times."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[_HOME], ignore_errors=True)


@pytest.fixture(scope="session")
def state_root() -> Iterator[Path]:
    """A folder that other users of the machine may enter."""
    folder = scratch.folder("leasing-test-")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def state_dir(state_root: Path) -> Iterator[Path]:
    """A state folder for one test."""
    folder = Path(tempfile.mkdtemp(dir=state_root))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(state_root: Path) -> Iterator[OwnPostgres]:
    """The server behind `database_url`; never stop it, other tests use it too."""
    with running(state_root / "shared-postgres") as server:
        yield server


@pytest.fixture(scope="session")
def databases(postgres: OwnPostgres) -> TestDatabases:
    return TestDatabases(postgres)


@pytest.fixture
def database_url(databases: TestDatabases) -> Iterator[str]:
    """A database of this test's own with the newest schema, as `postgresql+psycopg://…`."""
    with databases.migrated() as url:
        yield url


@pytest.fixture
def empty_database_url(databases: TestDatabases) -> Iterator[str]:
    """A database of this test's own in which no migration has run."""
    with databases.empty() as url:
        yield url


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    engine = create_engine(database_url, "test")
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine: sa.Engine) -> Iterator[Session]:
    """For one unit of work in a test; commit it to let other connections see it."""
    with Session(engine, expire_on_commit=False) as session:
        yield session
