"""Errors as `application/problem+json` (RFC 9457): the one table from error class to status."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.responses import Response

from leasing import errors
from leasing.schema.base import Problem

log = logging.getLogger(__name__)

STATUS: dict[type[errors.LeasingError], int] = {
    errors.Invalid: 422,
    errors.NotSignedIn: 401,
    errors.NotAllowed: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.OverQuota: 403,
    errors.NoRoom: 409,
    errors.Gone: 410,
    errors.DriverError: 502,
    errors.Unavailable: 503,
    errors.HostError: 500,
    errors.LeasingError: 500,
}


CODES = {400: "invalid", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}
"""Of what the framework itself refuses."""


def status_of(error: errors.LeasingError) -> int:
    """The status of the nearest class that the table names."""
    return next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    hint: str | None = None,
    locations: list[dict[str, object]] | None = None,
) -> JSONResponse:
    """The answer that says what went wrong."""
    body = Problem(
        type=f"urn:leasing:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        code=code,
        detail=detail,
        hint=hint,
        errors=locations,
    )
    headers = (
        {"WWW-Authenticate": "Bearer"} if status == 401 else {"Retry-After": "2"} if status == 503 else None
    )
    return JSONResponse(
        body.model_dump(exclude_none=True), status, headers=headers, media_type="application/problem+json"
    )


def of(error: errors.LeasingError) -> JSONResponse:
    """The answer for one of our errors."""
    return problem(status_of(error), error.code, error.message, hint=error.hint)


def install(app: FastAPI) -> None:
    """Answer every error of the app in this one shape."""

    @app.exception_handler(errors.LeasingError)
    def _ours(_: Request, error: errors.LeasingError) -> Response:
        return of(error)

    @app.exception_handler(RequestValidationError)
    def _malformed(_: Request, error: RequestValidationError) -> Response:
        locations = _locations(error.errors())
        first = locations[0] if locations else {}
        detail = f"{first.get('where', 'the request')}: {first.get('what', 'malformed')}"
        return problem(422, errors.Invalid.code, detail, locations=locations)

    @app.exception_handler(HTTPException)
    def _http(_: Request, error: HTTPException) -> Response:
        code = CODES.get(error.status_code, "http")
        answer = problem(error.status_code, code, str(error.detail))
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(OperationalError)
    def _database(_: Request, error: OperationalError) -> Response:
        log.warning("database away error=%s", str(error.orig).splitlines()[0] if error.orig else error)
        return problem(503, errors.Unavailable.code, "The database does not answer; try again shortly.")

    @app.exception_handler(PoolTimeout)
    def _crowded(_: Request, error: PoolTimeout) -> Response:
        log.warning("no connection to spare error=%s", error)
        return problem(503, errors.Unavailable.code, "Too many ask at one time; try again shortly.")

    @app.exception_handler(Exception)
    def _unexpected(request: Request, error: Exception) -> Response:
        reference = secrets.token_hex(4)
        log.error("unexpected reference=%s path=%s", reference, request.url.path, exc_info=error)
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            return problem(503, errors.Unavailable.code, "The database went away; try again shortly.")
        return problem(500, "internal", f"Something went wrong here; the log has it under {reference}.")


def _locations(found: Sequence[Any]) -> list[dict[str, object]]:
    return [
        {
            "where": ".".join(str(part) for part in error["loc"] if part != "body") or "body",
            "what": error["msg"],
        }
        for error in found[:20]
    ]
