"""Whether a schema is one that this version of the code knows."""

from __future__ import annotations

from leasing.database import create_engine
from leasing.errors import HostError
from leasing.migrating import at, migrations


def known() -> frozenset[str]:
    """Every revision that this version can be at, or migrate from."""
    return frozenset(one.revision for one in migrations().walk_revisions())


def check(url: str) -> None:
    """Raises `HostError` for a database that a newer version has migrated: what it says now is not understood here."""
    engine = create_engine(url, "leasing-revisions", pool_size=1)
    try:
        with engine.connect() as connection:
            found = at(connection)
    finally:
        engine.dispose()
    if newer := set(found) - known():
        raise HostError(
            f"The database was made by a newer version (its schema is {', '.join(sorted(newer))}).",
            hint="Start that version again, or restore a backup that this one wrote: lease admin restore FILE",
        )
