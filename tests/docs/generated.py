"""Documents that follow from the code: `make docs` writes them, a test keeps them equal."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

from pydantic_settings import BaseSettings
from sqlalchemy import orm

import leasing.settings
from api import openapi, problems
from api.app import create_app
from leasing.errors import LeasingError, by_code
from leasing.settings.core import CoreSettings
from leasing.settings.limits import LimitSettings
from leasing.states import TABLE, EndReason, LeaseState
from monitoring.metrics import FAMILIES, Source
from tests.docs.pictures import SCENES, picture

DOCS = Path(__file__).parent.parent.parent / "docs"
CLI = (
    ("LEASING_URL", "Server that the command line and the SDK talk to; needs LEASING_TOKEN."),
    ("LEASING_TOKEN", "Token they bring."),
    (
        "LEASING_CONFIG_DIR",
        "Where `lease login` keeps its token; else `leasing` in the user's configuration folder.",
    ),
)


def settings() -> str:
    """Every option of every group, with its default."""
    lines = [
        "# Settings",
        "",
        "Environment variables, read at a process's start. Written by `make docs`.",
        "",
    ]
    for module in sorted(one.name for one in pkgutil.iter_modules(leasing.settings.__path__)):
        found = importlib.import_module(f"leasing.settings.{module}")
        for group in vars(found).values():
            if isinstance(group, type) and issubclass(group, BaseSettings) and group is not BaseSettings:
                lines += [f"## {module.capitalize()}", "", f"{(group.__doc__ or '').strip()}", ""]
                lines += ["| variable | default | meaning |", "|---|---|---|"]
                prefix = group.model_config.get("env_prefix", "")
                for name, field in group.model_fields.items():
                    default = (
                        "" if field.default is None else f"`{field.default}`" if field.default != "" else ""
                    )
                    lines.append(f"| `{prefix}{name.upper()}` | {default} | {field.description} |")
                lines.append("")
    lines += ["## Command line and SDK", "", "| variable | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in CLI]
    return "\n".join(lines) + "\n"


def lifecycle() -> str:
    """States, edges and end reasons."""
    lines = ["# A lease's life", "", "Written by `make docs` from the table in `leasing/states.py`.", ""]
    lines += ["```mermaid", "stateDiagram-v2", "    [*] --> queued"]
    lines += [f"    {edge.source} --> {edge.target}" for edge in TABLE]
    lines += ["    ended --> [*]", "```", "", "| from | to | when | by |", "|---|---|---|---|"]
    lines += [
        f"| {edge.source} | {edge.target} | {edge.when} | {', '.join(sorted(edge.causes))} |"
        for edge in TABLE
    ]
    lines += ["", f"States: {', '.join(LeaseState)}.", "", f"End reasons: {', '.join(EndReason)}."]
    return "\n".join(lines) + "\n"


def metrics() -> str:
    """Every family with its labels, by whose page it stands on."""
    lines = ["# Metrics", "", "Written by `make docs` from `monitoring/metrics.py`.", ""]
    lines += [
        "Both pages want the metrics token of the state folder (`metrics.token`); `/prometheus/targets` lists the",
        "nodes'. What cannot be measured has no series. `leasing_lease_info` and `leasing_lease_gpu_info` are joined:",
        "`leasing_lease_cpu_utilization_cores * on (lease_id) group_left (name, owner) leasing_lease_info`.",
    ]
    for source, title in (
        (Source.PLATFORM, "The platform's `/metrics`"),
        (Source.NODE, "A node's `/metrics`"),
    ):
        lines += ["", f"## {title}", "", "| metric | kind | labels | meaning |", "|---|---|---|---|"]
        lines += [
            f"| `{family.name}` | {type(family).__name__.lower()} | {', '.join(family.labels)} | {family.words} |"
            for family in FAMILIES
            if family.source is source
        ]
    return "\n".join(lines) + "\n"


def api() -> str:
    """Every operation, and every code of a refusal."""
    app = create_app(
        settings=CoreSettings(), limits=LimitSettings(), sessions=orm.sessionmaker(), url="",
        connect=_nothing, metrics=_nothing, catalogue=[],
    )  # fmt: skip
    document = app.openapi()
    lines = [
        "# The REST API",
        "",
        "Written by `make docs` from what `/openapi.json` says, where the bodies are described.",
    ]
    lines += ["", openapi.DESCRIPTION.strip(), ""]
    for tag, text in openapi.TAGS.items():
        lines += [f"## {tag.capitalize()}", "", text, "", "| operation | | refusals |", "|---|---|---|"]
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if operation["tags"] == [tag]:
                    refusals = ", ".join(sorted(one for one in operation["responses"] if one >= "400"))
                    lines.append(f"| `{method.upper()} {path}` | {operation['summary']} | {refusals} |")
        lines.append("")
    lines += ["## Codes", "", "| code | status | |", "|---|---|---|"]
    for code, error in by_code().items():
        if error is not LeasingError:
            status = problems.status_of(error())
            lines.append(f"| `{code}` | {status} {HTTPStatus(status).phrase} | {error.__doc__} |")
    return "\n".join(lines) + "\n"


def _nothing(*_: object) -> Any:
    raise AssertionError("a document asks for nothing")


GENERATED: dict[str, Callable[[], str]] = {
    "settings.md": settings,
    "lifecycle.md": lifecycle,
    "metrics.md": metrics,
    "api.md": api,
    **{f"pictures/{name}.svg": partial(picture, scene) for name, scene in SCENES.items()},
}

if __name__ == "__main__":
    for name, write in GENERATED.items():
        (DOCS / name).write_text(write())
