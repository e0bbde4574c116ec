"""What admins say of nodes, for leases that ask for it."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.orm import Session

from leasing.errors import Invalid
from leasing.service import events, nodes
from leasing.service.principal import Principal

MOST = 64


def label(session: Session, name: str, changes: Mapping[str, str | None], *, principal: Principal) -> None:
    """Set labels of a node, and take away those that are None. Leases that are there stay.

    Raises `NotFound`, and `Invalid` for more than 64 labels.
    """
    node = nodes.locked(session, name)
    wanted = {key: value for key, value in (node.labels | dict(changes)).items() if value is not None}
    if len(wanted) > MOST:
        raise Invalid(
            f"Node {name} would have {len(wanted)} labels; the limit is {MOST}.",
            hint=f"Take some away: lease admin nodes label {name} KEY-",
        )
    if wanted == node.labels:
        return
    node.labels = wanted
    said = ", ".join(f"{key}={value}" for key, value in sorted(wanted.items())) or "none"
    events.record(
        session,
        "node.labelled",
        f"{principal.name} changed the labels of node {name}: {said}",
        actor=principal.actor,
        node_id=node.id,
        data={"labels": wanted},
    )
