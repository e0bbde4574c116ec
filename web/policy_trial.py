"""What a policy would have done to the last days, as far as that can be played while somebody waits for a page."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from leasing import policy_terms
from leasing.reclaim import Rule
from leasing.schema.activity import ActivityPage
from leasing.service import replaying
from leasing.settings.limits import LimitSettings
from scheduler.simulation import reclaims
from scheduler.simulation.reclaims import Case, Outcome
from web.policy_form import Typed

MOST_MINUTES = 30_000
"""Of leases, all together: twenty for a day. That is read and played in some seconds of one processor."""
SOON = timedelta(hours=1)
SHOWN = 12
OPTIONS = ("action", "window", "threshold", "grace", "warn", "hours")
"""Terms that the command for it takes as they are."""


@dataclass(frozen=True)
class Line:
    """One lease's part."""

    name: str
    owner: str
    before: Outcome
    after: Outcome


@dataclass(frozen=True)
class Trial:
    """What came of it; or, where `refused` says why nothing did, the `command` that plays it elsewhere."""

    days: int
    said: str
    command: str
    leases: int = 0
    before: Outcome | None = None
    after: Outcome | None = None
    lines: tuple[Line, ...] = ()
    refused: str = ""


@dataclass(frozen=True)
class Record:
    """What there is to play, in hand: no transaction stays open meanwhile."""

    trial: Trial
    typed: Typed
    rule: Rule
    pages: list[ActivityPage]
    least: float


def read(
    session: Session, typed: Typed, rule: Rule, *, days: int, limits: LimitSettings, now: datetime
) -> Record:
    """Raises `NotFound` for the project that it is for."""
    project = typed.which.strip() if typed.whom == "project" else None
    trial = Trial(days, str(rule).partition(": ")[2], command(typed, days))
    found = replaying.minutes(session, days=days, project=project, now=now)
    pages = []
    if found > MOST_MINUTES:
        hours = f"{found / 60:,.0f} hours of leases are recorded of that time, and a page plays {MOST_MINUTES // 60:,}"
        said = f"{hours} at most. Take fewer days, or let your own machine play it:"
        trial = replace(trial, refused=said)
    else:
        pages = list(_pages(session, days, project, now))
    return Record(trial, typed, rule, pages, float(limits.min_idle_timeout_seconds))


def play(record: Record) -> Trial:
    """Takes seconds of this process's own time."""
    if record.trial.refused:
        return record.trial
    recorded = reclaims.cases(record.pages, lambda lease: policy_terms.rule_in(lease.policy))
    found = [case for case in recorded if _fits(record.typed, case)]
    before, after = (
        reclaims.play(found, record.pages[0].thresholds, tried=rule, least=record.least, soon=SOON)
        for rule in (None, record.rule)
    )
    lines = [
        Line(case.name, case.owner, before.leases[case.name], after.leases[case.name])
        for case in {case.name: case for case in found}.values()
    ]
    lines.sort(key=lambda line: (-line.after.returned_device_hours, -line.after.taken, line.name))
    most = tuple(line for line in lines if line.before.taken or line.after.taken)[:SHOWN]
    return replace(record.trial, leases=len(found), before=before.all, after=after.all, lines=most)


def command(typed: Typed, days: int) -> str:
    """What plays the same on an admin's own machine."""
    said = typed.said()
    words = ["lease", "admin", "policy", "simulate"]
    for term in OPTIONS:
        texts = said.get(term, "").replace(",", " ").split() if term == "threshold" else [said.get(term, "")]
        words += [part for text in texts if text for part in (f"--{term}", text.replace(", ", ","))]
    words += ["--learned"] if typed.learned else []
    words += [] if len(words) > 4 else ["--window", "1h"]
    words += ["--days", str(days)]
    words += ["--project", typed.which.strip()] if typed.whom == "project" else []
    return shlex.join(words)


def _pages(session: Session, days: int, project: str | None, now: datetime) -> Iterator[ActivityPage]:
    cursor: str | None = ""
    while cursor is not None:
        page = replaying.page(
            session, days=days, project=project, cursor=cursor or None, limit=replaying.MAX_PAGE, now=now
        )
        yield page
        cursor = page.next


def _fits(typed: Typed, case: Case) -> bool:
    of = {"project": case.project, "environment": case.environment, "lease": case.name}
    return typed.whom not in of or of[typed.whom] == typed.which.strip()
