"""The engine's JSON → the contract's values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from leasing.drivers.protocol import Container, Image
from leasing.drivers.spec import TOOLS

NEVER = "0001-01-01"


def moment(text: str | None) -> datetime | None:
    """The engine's RFC 3339 time with nanoseconds; None for its zero."""
    if not text or text.startswith(NEVER):
        return None
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))


def container(facts: Mapping[str, Any]) -> Container:
    """From an inspection."""
    state = facts["State"]
    networks = (facts.get("NetworkSettings") or {}).get("Networks") or {}
    running = bool(state.get("Running"))
    return Container(
        id=facts["Id"],
        name=facts["Name"].lstrip("/"),
        state=state["Status"],
        labels=facts["Config"].get("Labels") or {},
        image=facts["Image"],
        created_at=moment(facts["Created"]) or datetime.now(UTC),
        address=next((one["IPAddress"] for one in networks.values() if one.get("IPAddress")), None)
        if running
        else None,
        pid=state.get("Pid") or None,
        started_at=moment(state.get("StartedAt")),
        finished_at=moment(state.get("FinishedAt")),
        exit_code=None if running or state["Status"] == "created" else state.get("ExitCode"),
        oom_killed=bool(state.get("OOMKilled")),
        error=state.get("Error") or None,
        volumes=tuple(
            one["Name"]
            for one in facts.get("Mounts") or ()
            if one.get("Type") == "volume" and one.get("Destination") != TOOLS
        ),
    )


def listed(facts: Mapping[str, Any]) -> Container:
    """From a sparse listing: no address, no exit code."""
    return Container(
        id=facts["Id"],
        name=facts["Names"][0].lstrip("/") if facts.get("Names") else "",
        state=facts["State"],
        labels=facts.get("Labels") or {},
        image=facts["ImageID"],
        created_at=datetime.fromtimestamp(facts["Created"], UTC),
    )


def image(facts: Mapping[str, Any]) -> Image:
    """From an inspection or a listing."""
    created = facts["Created"]
    config = facts.get("Config") or {}
    return Image(
        id=facts["Id"],
        tags=tuple(tag for tag in facts.get("RepoTags") or () if tag != "<none>:<none>"),
        size_bytes=facts["Size"],
        created_at=datetime.fromtimestamp(created, UTC)
        if isinstance(created, int)
        else moment(created) or datetime.fromtimestamp(0, UTC),
        labels=config.get("Labels") or facts.get("Labels") or {},
        runs=bool(config.get("Cmd") or config.get("Entrypoint")),
        entrypoint=tuple(config.get("Entrypoint") or ()),
        command=tuple(config.get("Cmd") or ()),
        layers=len((facts.get("RootFS") or {}).get("Layers") or ()),
    )
