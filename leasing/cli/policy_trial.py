"""`lease admin policy simulate` and `samples`: what a policy would have done, played on this machine."""

from __future__ import annotations

import csv
import json as reading
import sys
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leasing.cli import show
from leasing.cli.policies import Action, Grace, Hours, Learned, Threshold, Warn, Window, policies
from leasing.cli.session import App, Json, sdk
from leasing.errors import Invalid
from leasing.policy_words import terms
from leasing.units import format_duration, parse_duration

if TYPE_CHECKING:
    from leasing.reclaim import Rule
    from scheduler.simulation.reclaims import Case, Outcome, Told

# What plays the record is the scheduler's own code; it is loaded by these commands alone, and needs no database.

Days = Annotated[int, typer.Option(min=1, max=366, help="How far back.")]
Project = Annotated[str | None, typer.Option(help="Only leases in its name.")]
SHOWN = 12
"""So many leases and users are shown, the most affected first."""
TRIED = "tried"


def register(_: App) -> None:
    policies.command("simulate")(simulate)
    policies.command("samples")(samples)


def samples(days: Days = 7, project: Project = None) -> None:
    """Print recorded GPU utilisation as CSV: pod, seconds, duty_percent.

    For lease admin policy simulate --series FILE: a lease's id stands for it,
    and nothing else of it is in it.
    """
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(("pod", "seconds", "duty_percent"))
    with sdk() as client:
        for page in client.admin.activity(days=days, project=project):
            for lease in page.items:
                for run in lease.runs:
                    for number, peak in enumerate(run.peaks.get("gpu", ()) if run.first else ()):
                        if run.first and peak is not None:
                            at = (run.first - page.since).total_seconds() + 60 * number
                            rows.writerow((str(lease.id)[:8], round(at), f"{100 * peak:.4g}"))


def simulate(
    *,
    policy: Annotated[
        Path | None, typer.Option(help="A policy in JSON, as lease admin policy show NAME --json prints it.")
    ] = None,
    action: Action = None,
    window: Window = None,
    learned: Learned = False,
    threshold: Threshold = None,
    grace: Grace = None,
    warn: Warn = None,
    hours: Hours = None,
    days: Days = 7,
    project: Project = None,
    series: Annotated[
        Path | None, typer.Option(help="Take this instead: a CSV file of pod, seconds, duty_percent.")
    ] = None,
    surprise: Annotated[str, typer.Option(help="Who comes back within so long was surprised.")] = "1h",
    json: Json = False,
) -> None:
    """What a policy would have done to the last days, and to whom, beside what counts now."""
    from leasing import policy_terms
    from leasing.settings.idle import IdleSettings
    from leasing.settings.limits import LimitSettings
    from scheduler.simulation import reclaims

    given = terms(
        action=action, window=window, learned=learned, longest=None, threshold=threshold, grace=grace, warn=warn,
        hours=hours, protected=None, retention=None,
    )  # fmt: skip
    if (policy is None) == (not given):
        raise Invalid(
            "Say what to try: terms of a policy, or a file with one.",
            hint="For example: lease admin policy simulate --window 30m --warn 10m --days 7",
        )
    tried = _rule(given if policy is None else _written(policy))
    soon = timedelta(seconds=parse_duration(surprise))
    thresholds = dict(IdleSettings().thresholds())
    if series is not None:
        with series.open(encoding="utf-8", errors="replace", newline="") as lines:
            found = reclaims.series(lines)
    else:
        with sdk() as client:
            pages = list(client.admin.activity(days=days, project=project))
        thresholds = pages[0].thresholds
        found = list(reclaims.cases(pages, lambda lease: policy_terms.rule_in(lease.policy)))
    least = float(LimitSettings().min_idle_timeout_seconds)
    is_now, is_tried = (
        reclaims.play(found, thresholds, tried=rule, least=least, soon=soon) for rule in (None, tried)
    )
    _tell(tried, found, is_now, is_tried, surprise, json=json)


def _rule(given: dict[str, Any]) -> Rule:
    from pydantic import ValidationError

    from leasing import policy_terms
    from leasing.schema.policy import PolicyIn
    from leasing.settings.limits import LimitSettings

    try:
        ask = PolicyIn.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise Invalid(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}.") from None
    return policy_terms.rule(TRIED, "all", policy_terms.columns(ask, LimitSettings()))


def _written(file: Path) -> dict[str, Any]:
    from leasing.schema.policy import PolicyIn

    try:
        said = reading.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Invalid(f"{file} is not JSON: {error}.") from None
    if not isinstance(said, dict):
        raise Invalid(f"{file} holds no policy.", hint="lease admin policy show NAME --json > FILE")
    return {name: value for name, value in said.items() if name in PolicyIn.model_fields}


def _tell(tried: Rule, found: list[Case], before: Told, after: Told, surprise: str, *, json: bool) -> None:
    owners = {case.name: case.owner for case in found}
    if json:
        show.as_json(
            {
                "policy": str(tried),
                "as_it_is": _as_json(before.all),
                "as_tried": _as_json(after.all),
                "leases": {
                    name: {"owner": owners[name], "as_it_is": _as_json(before.leases[name]), "as_tried": _as_json(one)}
                    for name, one in after.leases.items()
                },
                "owners": {
                    name: {"as_it_is": _as_json(before.owners[name]), "as_tried": _as_json(one)}
                    for name, one in after.owners.items()
                },
            }
        )  # fmt: skip
        return
    if not found:
        print(
            "Nothing is recorded of that time. Activity is recorded from the first lease on, minute by minute."
        )
        return
    print(f"{len(found)} leases, played twice. Tried: {str(tried).removeprefix(f'policy {TRIED}: ')}.")
    rows = [
        ("idle GPU-hours", "idle_device_hours"), ("GPU-hours returned", "returned_device_hours"),
        ("warnings", "warnings"), ("taken back", "taken"), ("came back to it", "woken"),
        (f"within {format_duration(parse_duration(surprise))}", "surprised"),
    ]  # fmt: skip
    show.table(
        ["", "AS IT IS", "AS TRIED"],
        [(word, _number(before.all, name), _number(after.all, name)) for word, name in rows],
        empty="",
    )
    for title, told_before, told_after in (
        ("LEASE", before.leases, after.leases), ("USER", before.owners, after.owners),
    ):  # fmt: skip
        print()
        most = sorted(told_after, key=lambda name: -told_after[name].returned_device_hours)[:SHOWN]
        show.table(
            [title, "IDLE GPU-HOURS", "RETURNED", "WAS", "TAKEN BACK", "WAS", "SURPRISED", "WAS"],
            [_row(name, told_before[name], told_after[name]) for name in most if told_after[name].taken],
            empty=f"No {title.lower()}'s would have been taken back.",
        )


def _row(name: str, before: Outcome, after: Outcome) -> list[str]:
    return [
        name,
        f"{after.idle_device_hours:.1f}",
        f"{after.returned_device_hours:.1f}",
        f"{before.returned_device_hours:.1f}",
        str(after.taken),
        str(before.taken),
        str(after.surprised),
        str(before.surprised),
    ]


def _number(of: Outcome, name: str) -> str:
    value = getattr(of, name)
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _as_json(of: Outcome) -> dict[str, Any]:
    return asdict(of) | {
        "times": [
            {
                "at": one.at.isoformat(),
                "idle_since": one.idle_since.isoformat(),
                "warned_at": [moment.isoformat() for moment in one.warned_at],
                "back_at": one.back_at.isoformat() if one.back_at else None,
            }
            for one in of.times
        ]
    }
