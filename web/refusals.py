"""What a form is told of a refusal: a sentence beside each field that is at fault."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from pydantic import ValidationError
from sqlalchemy.orm import Session

from leasing.errors import LeasingError


class Refused(Exception):
    """Not done. `faults` has a sentence a field; under "" is what is about no single one."""

    def __init__(self, faults: dict[str, str]) -> None:
        self.faults = faults
        super().__init__(", ".join(faults))


def words(error: LeasingError | ValidationError) -> str:
    return str(error) if isinstance(error, LeasingError) else str(error.errors()[0]["msg"])


def trial(session: Session, act: Callable[[], object]) -> str:
    """Why that would be refused, or nothing. Nothing of the trial is left."""
    tried = session.begin_nested()
    try:
        act()
    except (LeasingError, ValidationError) as error:
        return words(error)
    finally:
        tried.rollback()
    return ""


def blamed(
    fields: Iterable[str], refusal: Callable[[str], str], depends: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    """Which fields are refused, as `refusal` says of each, and why. The rules stand in one place and name no field: one
    is at fault if it is refused when it stands alone, with those that its rule `depends` on if they are not."""
    faults = {field: said for field in fields if (said := refusal(field))}
    for field, others in depends.items():
        if any(faults.get(field) == faults.get(other) for other in others):
            faults.pop(field, None)
    return faults
