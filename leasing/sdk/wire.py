"""What is sent and what is answered, as the models of `leasing.schema`."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from leasing.errors import Invalid
from leasing.sdk.transport import Transport, stranger

Model = TypeVar("Model", bound=BaseModel)


def body(model: type[BaseModel], wishes: dict[str, Any]) -> dict[str, Any]:
    """What to send. Raises `Invalid` where the platform would."""
    try:
        return model(**wishes).model_dump(mode="json", exclude_none=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Invalid(f"{where}: {first['msg']}" if where else first["msg"]) from error


def read(transport: Transport, model: type[Model], answer: Any) -> Model:
    """Raises `LeasingError` for an answer that is none; a field that this version does not know is left out."""
    try:
        return model.model_validate(answer)
    except ValidationError as error:
        raise stranger(transport.url) from error


def ask(transport: Transport, model: type[Model], method: str, path: str, **arguments: Any) -> Model:
    """One operation, and its answer."""
    return read(transport, model, transport.call(method, path, **arguments))


def period(wanted: dict[str, Any]) -> dict[str, Any]:
    """A range of time and filters as query parameters: `since` and `until` are `from` and `to` on the wire."""
    names = {"since": "from", "until": "to"}
    said = {names.get(name, name): value for name, value in wanted.items() if value is not None}
    return {name: one.isoformat() if isinstance(one, datetime) else one for name, one in said.items()}
