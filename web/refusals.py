"""What a form is told of a refusal: a sentence beside each field that is at fault."""

from __future__ import annotations

from collections.abc import Callable

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
