"""`lease admin policy`: how leases are taken back; for admins."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from leasing.cli import admin, show
from leasing.cli.session import App, Json, client
from leasing.policy_words import for_whom, terms, working
from leasing.units import format_duration

policies = App(help="How leases are taken back: when, with which warnings, and what is done.")

Name = Annotated[str, typer.Argument(help="Its name.")]

Action = Annotated[str | None, typer.Option(help="What is done then: suspend, end, warn.")]
Window = Annotated[str | None, typer.Option(help="Quiet for so long is idle: 30m, or never.")]
Learned = Annotated[
    bool, typer.Option("--learned", help="Learn the window from how such leases are used, --window at most.")
]
Warn = Annotated[str | None, typer.Option(help="So long before, the longest first: 15m,5m, or none.")]
Hours = Annotated[
    str | None, typer.Option(help="Nothing is idle in these: 'mon-fri 09:00-18:00 Europe/Berlin'.")
]
Grace = Annotated[str | None, typer.Option(help="After each start, for so long, nothing is idle.")]
Threshold = Annotated[
    list[str] | None, typer.Option(help="SIGNAL=VALUE: from there on it is activity. May be repeated.")
]


def register(_: App) -> None:
    admin.app.add_typer(policies, name="policy")


@policies.command("ls")
def list_policies(json: Json = False) -> None:
    """Every policy, the most general first; of those that fit a lease the last one here counts."""
    with client() as server:
        page = server.call("GET", "/policies")
    if json:
        show.as_json(page)
        return
    show.table(
        ["NAME", "FOR", "IDLE", "THEN", "WARNED BEFORE", "LONGEST", "HOURS"],
        [_row(one) for one in page["items"]],
        empty="There is none. For example: lease admin policy set house --window 2h --warn 30m,10m",
    )


@policies.command("show")
def show_policy(name: Name, json: Json = False) -> None:
    """All that a policy says, and what it has learned."""
    with client() as server:
        one = server.call("GET", _at(name))
    _tell(one, json=json)


@policies.command("set")
def set_policy(
    name: Name,
    *,
    project: Annotated[str | None, typer.Option(help="For leases in its name.")] = None,
    environment: Annotated[str | None, typer.Option(help="For leases of this environment or image.")] = None,
    lease: Annotated[str | None, typer.Option(help="For this one.")] = None,
    action: Action = None,
    window: Window = None,
    learned: Learned = False,
    longest: Annotated[
        str | None, typer.Option(help="The longest that leases may ask with --idle: 8h.")
    ] = None,
    threshold: Threshold = None,
    grace: Grace = None,
    warn: Warn = None,
    hours: Hours = None,
    protected: Annotated[
        str | None, typer.Option(help="After each start it gives way to nobody so long.")
    ] = None,
    retention: Annotated[
        str | None, typer.Option(help="So long a suspended lease keeps files: 7d; 0s: for ever.")
    ] = None,
    json: Json = False,
) -> None:
    """Make a policy or set it anew, whole: what is not named is as the platform's own.

    For all leases, unless --project, --environment or --lease is given. It
    counts at once, and takes nothing back without its warnings.
    """
    asked = terms(
        action=action, window=window, learned=learned, longest=longest, threshold=threshold, grace=grace, warn=warn,
        hours=hours, protected=protected, retention=retention,
    )  # fmt: skip
    asked |= {"project": project, "environment": environment, "lease": lease}
    with client() as server:
        made = server.call(
            "PUT", _at(name), json={key: value for key, value in asked.items() if value is not None}
        )
    _tell(made, json=json)


@policies.command("rm")
def remove_policy(name: Name) -> None:
    """Remove a policy; the next more general one counts at once."""
    with client() as server:
        server.call("DELETE", _at(name))
    print(f"Policy {name} is gone.")


def _at(name: str) -> str:
    from leasing.sdk.transport import at  # lazy: see session.client

    return at("policies", name)


def _tell(one: dict[str, Any], *, json: bool) -> None:
    if json:
        show.as_json(one)
        return
    print(one["said"][0].upper() + one["said"][1:])
    show.facts(
        [
            ("for", for_whom(one["subject"])),
            ("says itself", ", ".join(name.removesuffix("_seconds") for name in one["set"]) or "nothing"),
            ("longest", format_duration(one["longest_seconds"]) if one["longest_seconds"] else ""),
            ("thresholds", ", ".join(f"{name} {value:g}" for name, value in one["thresholds"].items())),
            ("grace", format_duration(one["grace_seconds"])),
            ("hours", working(one["hours"])),
            ("protected", format_duration(one["protected_seconds"])),
            (
                "files kept",
                format_duration(one["retention_seconds"]) if one["retention_seconds"] else "for ever",
            ),
        ]
    )
    if not one["learned"]:
        return
    print()
    show.table(
        ["LEARNED FOR", "PROJECT", "ENVIRONMENT", "WINDOW", "FROM", "WHEN"],
        [
            [
                found["user"], found["project"], found["environment"], format_duration(found["window_seconds"]),
                f"{found['gaps']} gaps", show.moment(found["learned_at"]),
            ]
            for found in one["windows"]
        ],
        empty="Nothing is learned yet: the longest window counts until enough was recorded.",
    )  # fmt: skip


def _row(one: dict[str, Any]) -> list[str]:
    window = format_duration(one["window_seconds"]) if one["window_seconds"] else "never"
    return [
        one["name"],
        for_whom(one["subject"]),
        f"learned, {window} at most" if one["learned"] else window,
        one["action"] if one["window_seconds"] else "-",
        ", ".join(format_duration(step) for step in one["warnings"]) or "not",
        format_duration(one["longest_seconds"]) if one["longest_seconds"] else "-",
        working(one["hours"]) or "-",
    ]
