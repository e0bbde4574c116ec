"""Workspaces: what outlives leases. `Client.workspaces` holds one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from leasing.names import workspace_ref
from leasing.schema.workspace import WorkspaceIn, WorkspaceOut, WorkspacePage, WorkspacePatch
from leasing.sdk.transport import Transport, at
from leasing.sdk.wire import ask, body


class Workspaces:
    """One is called `data` if it is yours, `vision/data` if it is project vision's; everywhere an id will do."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, *, everyone: bool = False) -> list[WorkspaceOut]:
        """Yours, and those of your projects; for admins `everyone` gives every one."""
        params = {"everyone": everyone}
        return ask(self._transport, WorkspacePage, "GET", "/workspaces", params=params).items

    def create(self, name: str, **wishes: Any) -> WorkspaceOut:
        """Of `project`, `quota` (`50G`) and `node`, what is not as usual.

        Raises `Invalid`, `NotFound`, `NotAllowed`, `NameTaken`, `OverQuota`.
        """
        asked = body(WorkspaceIn, {"name": name} | wishes)
        return ask(self._transport, WorkspaceOut, "POST", "/workspaces", json=asked)

    def show(self, ref: str) -> WorkspaceOut:
        """Raises `NotFound`, `NotAllowed`."""
        path, params = located(ref)
        return ask(self._transport, WorkspaceOut, "GET", path, params=params)

    def set(self, ref: str, *, quota: str) -> WorkspaceOut:
        """Raises `NotFound`, `NotAllowed`, `OverQuota`, and `Conflict` for less than it holds."""
        path, params = located(ref)
        asked = body(WorkspacePatch, {"quota": quota})
        return ask(self._transport, WorkspaceOut, "PATCH", path, params=params, json=asked)

    def delete(self, ref: str) -> None:
        """For good. Raises `NotFound`, `NotAllowed`, and `Conflict` while a lease has it."""
        path, params = located(ref)
        self._transport.call("DELETE", path, params=params)

    def export(self, ref: str) -> Iterator[bytes]:
        """All that is in it, as the pieces of a tar. Raises `Unavailable` where it breaks off before its end."""
        path, params = located(ref)
        with self._transport.stream(f"{path}/export", params=params) as answer:
            yield from answer.iter_bytes()


def located(ref: str) -> tuple[str, dict[str, str]]:
    """Path and query of a workspace, below /api/v1. Raises `Invalid` for what can name none."""
    if "/" not in ref:
        return at("workspaces", ref), {}
    project, name, _ = workspace_ref(ref)
    return at("workspaces", name), {"project": project or ""}
