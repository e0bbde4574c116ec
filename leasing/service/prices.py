"""What an hour of a device costs. Prices hold for what was used before they were set, too: they are for looking at."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from leasing.errors import NotFound
from leasing.model import Price
from leasing.schema.usage import PriceIn, PriceOut, PricePage
from leasing.service import events
from leasing.service.principal import Principal


def page(session: Session) -> PricePage:
    rows = session.execute(sa.select(Price).order_by(Price.model)).scalars()
    return PricePage(items=[PriceOut.model_validate(one) for one in rows])


def put(session: Session, model: str, ask: PriceIn, *, principal: Principal) -> PriceOut:
    """Set or change the price of every device whose model has that as a part of its name."""
    new = insert(Price).values(model=model, per_hour=ask.per_hour)
    session.execute(
        new.on_conflict_do_update(index_elements=[Price.model], set_={"per_hour": new.excluded.per_hour})
    )
    _tell(session, principal, f"{principal.name} set the price of {model} to {ask.per_hour:g} an hour")
    return PriceOut(model=model, per_hour=ask.per_hour)


def remove(session: Session, model: str, *, principal: Principal) -> None:
    """Raises `NotFound`."""
    gone = session.execute(sa.delete(Price).where(Price.model == model).returning(Price.model)).all()
    if not gone:
        raise NotFound(f"No price is set for {model[:60]!r}.", hint="lease admin price ls shows them.")
    _tell(session, principal, f"{principal.name} removed the price of {model}")


def _tell(session: Session, principal: Principal, message: str) -> None:
    events.record(session, "price.changed", message, actor=principal.actor)
