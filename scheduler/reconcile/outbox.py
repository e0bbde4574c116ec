"""Stage: promised warnings are delivered, each at least once, by claim; nothing is sent inside a transaction."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from leasing.database import Sessions, now
from leasing.errors import LeasingError
from leasing.model import Contact, Lease, Node, Notice, Run, User
from leasing.service import events, notices
from leasing.settings.notify import NotifySettings
from leasing.states import Channel
from scheduler.away import AWAY
from scheduler.delivery.post import START_SECONDS
from scheduler.delivery.postman import Errand, Postman

log = logging.getLogger(__name__)
ACTOR = "outbox"
SIDE_BY_SIDE = 4
LONGEST_PAUSE = 900.0

# Together they wait for the slowest. So nobody has two on one channel among them, and what failed before, or goes where
# something failed last, comes after all that may well arrive.
CLAIM = sa.text("""
    WITH due AS (
        SELECT one.id, one.attempts + CAST(coalesce(contact.error, '') <> '' AS int) AS failed,
            row_number() OVER (
                PARTITION BY lease.owner_id, one.channel ORDER BY one.attempts, one.retry_at, one.id
            ) AS nth
        FROM notice AS one JOIN lease ON lease.id = one.lease_id
        LEFT JOIN contact ON contact.user_id = lease.owner_id AND contact.channel = one.channel
        WHERE one.delivered_at IS NULL AND one.given_up_at IS NULL AND one.voided_at IS NULL
            AND one.retry_at <= now() AND (one.claim_until IS NULL OR one.claim_until < now())
    )
    UPDATE notice SET attempts = attempts + 1, claim_until = now() + make_interval(secs => :seconds)
    WHERE id IN (
        SELECT one.id FROM notice AS one JOIN due ON due.id = one.id AND due.nth = 1
        WHERE one.delivered_at IS NULL AND one.given_up_at IS NULL AND one.voided_at IS NULL
            AND (one.claim_until IS NULL OR one.claim_until < now())
        ORDER BY due.failed, one.retry_at LIMIT :limit FOR UPDATE OF one SKIP LOCKED
    )
    RETURNING id
""")


class Outbox:
    """Any number may run beside each other: a row is one's own until its claim runs out."""

    def __init__(self, sessions: Sessions, postman: Postman, settings: NotifySettings) -> None:
        self._sessions = sessions
        self._postman = postman
        self._settings = settings

    def run_once(self) -> int:
        """Deliver what is due; how many rows were taken up. One that cannot be delivered is tried again, ever later."""
        count = 0
        while errands := self._claim():
            count += len(errands)
            with ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="outbox") as pool:
                list(pool.map(self._run_errand, errands))
        self._try_contacts()
        return count

    def _claim(self) -> Sequence[Errand]:
        """Rows that are this process's own for now; those whose deadline moved since are void, and not among them."""
        seconds = 2 * (self._settings.timeout_seconds + START_SECONDS) + 10
        while True:
            with self._sessions.begin() as session:
                ids = session.execute(CLAIM, {"limit": SIDE_BY_SIDE, "seconds": seconds}).scalars().all()
                if not ids:
                    return []
                found = [_errand(row) for row in _rows(session, ids)]
                moved = [one for one in found if not notices.stands(one.lease, one.notice)]
                for one in moved:
                    one.notice.voided_at, one.notice.claim_until = now(session), None
                if len(moved) < len(found):
                    return [one for one in found if one not in moved]

    def _run_errand(self, errand: Errand) -> None:
        notice = errand.notice
        try:
            error = self._postman.deliver(errand)
        except LeasingError as refused:
            error = str(refused)
        with self._sessions.begin() as session:
            self._apply(session, notice, error)
        if error:
            log.info("not delivered notice=%s channel=%s error=%s", notice.id, notice.channel, error)

    def _apply(self, session: Session, notice: Notice, error: str) -> None:
        """Write down how it went, unless the claim has passed on to somebody else."""
        moment = now(session)
        last = notice.attempts >= self._settings.attempts
        pause = min(LONGEST_PAUSE, self._settings.retry_seconds * 2 ** (notice.attempts - 1))
        values: dict[str, Any] = {"claim_until": None, "error": error[:500]}
        if not error:
            values["delivered_at"] = moment
        elif last:
            values["given_up_at"] = moment
        else:
            values["retry_at"] = moment + timedelta(seconds=pause)
        written = session.execute(
            sa.update(Notice)
            .where(Notice.id == notice.id, Notice.attempts == notice.attempts, Notice.delivered_at.is_(None))
            .values(values)
            .returning(Notice.id)
        ).all()
        if not written:
            return
        self._note_contact(session, notice, error)
        if error and last:
            message = f"its warning by {notice.channel} was given up after {notice.attempts} tries: {error}"
            events.record(session, "lease.unwarned", message, actor=ACTOR, lease_id=notice.lease_id)

    def _note_contact(self, session: Session, notice: Notice, error: str) -> None:
        """Its owner sees by `lease notify ls` whether what they have set works."""
        owner = sa.select(Lease.owner_id).where(Lease.id == notice.lease_id).scalar_subquery()
        values = {"error": error[:500]} if error else {"error": "", "told_at": now(session)}
        session.execute(
            sa.update(Contact)
            .where(Contact.user_id == owner, Contact.channel == notice.channel)
            .values(values)
        )

    def _try_contacts(self) -> None:
        with self._sessions() as session:
            asked = session.execute(
                sa.select(Contact, User.name)
                .join(User, User.id == Contact.user_id)
                .where(Contact.test_asked_at.is_not(None))
                .limit(SIDE_BY_SIDE)
            ).all()
        for contact, name in asked:
            try:
                error = self._postman.try_out(contact, name)
            except LeasingError as refused:
                error = str(refused)
            with self._sessions.begin() as session:
                values = {"error": error[:500]} if error else {"error": "", "told_at": now(session)}
                session.execute(
                    sa.update(Contact)
                    .where(Contact.id == contact.id, Contact.test_asked_at == contact.test_asked_at)
                    .values(values | {"test_asked_at": None})
                )


def _rows(session: Session, ids: Sequence[UUID]) -> Sequence[Any]:
    return session.execute(
        sa.select(
            Notice, Lease, User.name, Contact, sa.literal_column(AWAY),
            Run.generation, Node.id, Node.driver, Node.address,
        )
        .join(Lease, Lease.id == Notice.lease_id)
        .join(User, User.id == Lease.owner_id)
        .outerjoin(Contact, sa.and_(Contact.user_id == Lease.owner_id, Contact.channel == Notice.channel))
        .outerjoin(Run, sa.and_(Run.lease_id == Lease.id, Run.released_at.is_(None)))
        .outerjoin(Node, Node.id == Run.node_id)
        .where(Notice.id.in_(ids))
        .execution_options(populate_existing=True)
    ).all()  # fmt: skip


def _errand(row: Any) -> Errand:
    notice, lease, owner, contact, away, generation, *node = row
    channel = Channel(notice.channel)
    place = (generation, *node) if generation is not None else None
    return Errand(
        notice=notice, lease=lease, owner=owner, channel=channel, contact=contact, place=place, away=away
    )
