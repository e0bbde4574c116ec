"""A node's row, for whoever changes it."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.errors import NotFound
from leasing.model import Node


def locked(session: Session, name: str) -> Node:
    """The node as it is now, held for the transaction. Raises `NotFound`."""
    node = session.execute(
        sa.select(Node)
        .where(Node.name == name)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).scalar_one_or_none()
    if node is None:
        raise NotFound(f"There is no node {name[:60]!r}.", hint="lease admin nodes ls shows them.")
    return node
