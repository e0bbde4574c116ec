"""The document that describes the api: every operation with who may call it and how it may be refused."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from api.deps import COOKIE
from leasing.schema.base import Problem

PROBLEM = "application/problem+json"
OPEN: dict[str, Any] = {"security": []}
"""For `openapi_extra` of an operation that needs no user's token."""

TAGS = {
    "leases": "Ask for a lease, look at it, extend it, give it back; its output, its terminal and its files.",
    "access": "Who may use a lease besides who asked for it: its project, and tokens for its endpoint.",
    "reservations": "The calendar: devices for a later range of time.",
    "workspaces": "Volumes that outlive leases: yours and your projects'.",
    "events": "What happened, as a page or as it happens.",
    "cluster": "Nodes, devices, and what is free.",
    "images": "The catalogue of environments.",
    "people": "Users, tokens, signing in.",
    "warm": "What is kept ready on nodes before anybody asks.",
    "projects": "In whose name leases are asked for, who belongs to it, and what each may have.",
    "usage": "What was allocated and used, where devices' time went, prices.",
    "policies": "How leases are taken back: when, with which warnings, and what is done.",
    "contacts": "Where you are told before a lease is taken back, beside the pages and the shell: see warnings.md.",
    "registries": "Logins at private image registries.",
    "health": "For machines: is it up, is it ready, what does it measure.",
}
DESCRIPTION = f"""
Bring a token (`Authorization: Bearer lse_…`), made with `lease token` or `POST /api/v1/tokens`. Pages of the
platform's own origin may bring the cookie `{COOKIE}` instead.

Every error is `{PROBLEM}`: `code` is stable, `detail` is for people, `hint` names a way out, and `errors` says
where a payload is malformed. Durations are written `30m`, `4h`, `1h30m`; sizes `512M`, `16G` (powers of 1024).

`POST /api/v1/leases` takes an `Idempotency-Key`: sent again within a day, the same key and body answer with the
same lease. Lists come in pages: `limit`, and `cursor` (or `after`, for events) from `next` of the page before.

A terminal is a WebSocket, `/api/v1/leases/{{ref}}/terminal?command=…&command=…&tty=true&columns=80&rows=24`.
Binary frames are bytes, both ways. Text frames to the server are `{{"resize": [columns, rows]}}` and
`{{"eof": true}}`; the last frame from the server is `{{"exit_code": 0}}`, or, before it closes with 4000,
`{{"error": code, "detail": …}}`. With `tty=false&split=true` standard error comes as `{{"stderr": base64}}`.
Terminals of pages, which outlive a reload, are at `/api/v1/leases/{{ref}}/terminals`.

SSH is a WebSocket too, `/api/v1/leases/{{ref}}/tunnel?key=…`, with the public key that is to be let in. The first
frame is `{{"host_key": "ssh-ed25519 …"}}`; binary frames are the connection's bytes, refusals as in a terminal.
"""
EXAMPLE = Problem(
    type="urn:leasing:name_taken",
    title="Conflict",
    status=409,
    code="name_taken",
    detail="There is a live lease called 'demo' already.",
    hint="Choose another name, or: lease release demo",
)


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For `responses` of an operation: how it refuses, besides what `describe` adds to every one of its kind."""
    return {status: _refusal(status) for status in statuses}


def operation_id(route: APIRoute) -> str:
    """The function's own name, which clients made from the document then carry."""
    return route.name


def describe(app: FastAPI) -> None:
    """Make `app.openapi()` say all this; worked out at the first call."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # the way FastAPI provides for it


def _document(app: FastAPI) -> dict[str, Any]:
    found = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=DESCRIPTION.strip(),
        routes=app.routes,
        tags=[{"name": name, "description": text} for name, text in TAGS.items()],
    )
    schemas = found["components"]["schemas"]
    for replaced in ("HTTPValidationError", "ValidationError"):
        schemas.pop(replaced, None)
    schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    found["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer"},
        "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
    }
    found["security"] = [{"token": []}, {"session": []}]
    for path, methods in found["paths"].items():
        for operation in methods.values():
            for status in _usual(path, operation):
                operation["responses"][str(status)] = _refusal(status)
    return found


def _usual(path: str, operation: dict[str, Any]) -> list[int]:
    """What follows from an operation's kind."""
    statuses = [503]
    if "requestBody" in operation or "parameters" in operation:
        statuses.append(422)
    if operation.get("security") != []:
        statuses += [401, 403]
    if "{" in path:
        statuses.append(404)
    if "requestBody" in operation:
        statuses.append(413)
    return sorted(statuses)


def _refusal(status: int) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": {"$ref": "#/components/schemas/Problem"}}
    if status == EXAMPLE.status:
        content["example"] = EXAMPLE.model_dump(exclude_none=True)
    return {"description": HTTPStatus(status).phrase, "content": {PROBLEM: content}}
