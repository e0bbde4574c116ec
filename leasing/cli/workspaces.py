"""`lease workspace`: volumes that outlive leases."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leasing.cli import show
from leasing.cli.session import App, Json, client, listing, sdk
from leasing.errors import Conflict, Invalid
from leasing.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

app = App(help="Workspaces: files that outlive leases, at /workspace of those that name them.")

Ref = Annotated[str, typer.Argument(help="data for one of yours, vision/data for project vision's.")]
Quota = Annotated[str | None, typer.Option(help="The most that it may hold: 50G")]
KINDS = {
    "enforced": "enforced: it cannot hold more",
    "watched": "watched: above it nothing new may write to it",
    "none": "",
    "undecided": "enforced or watched, by the node that it is first used on",
}


def register(to: App) -> None:
    to.add_typer(app, name="workspace")


@app.command("ls")
def list_workspaces(
    everyone: Annotated[bool, typer.Option("--everyone", "-e", help="All there are; for admins.")] = False,
    json: Json = False,
) -> None:
    """Yours, and those of your projects."""
    listing(
        "/workspaces?everyone=true" if everyone else "/workspaces",
        json,
        ["NAME", "SIZE", "QUOTA", "NODE", "USED BY", "LAST USED", *(["OWNER"] if everyone else [])],
        lambda one: [
            one["ref"],
            _size(one),
            f"{format_size(one['quota_bytes'])} {one['quota_kind']}" if one["quota_bytes"] else "-",
            _node(one) or "-",
            _users(one) or "-",
            show.moment(one["last_used_at"]),
            *([one["owner"]] if everyone else []),
        ],
        empty="You have none yet. The first lease that names one makes it: lease up --workspace data",
    )


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="A DNS label.")],
    project: Annotated[str | None, typer.Option(help="Whose members share it; else it is yours.")] = None,
    quota: Quota = None,
    node: Annotated[str | None, typer.Option(help="Where it lies; else where it is first used.")] = None,
    json: Json = False,
) -> None:
    """Make one, for yourself or for a project."""
    given = {"project": project, "quota": quota, "node": node}
    asked = {"name": name} | {key: value for key, value in given.items() if value is not None}
    with client() as server:
        made = server.call("POST", "/workspaces", json=asked)
    if json:
        show.as_json(made)
    else:
        print(f"Workspace {made['ref']} is made. Use it: lease up --workspace {made['ref']}")


@app.command("show")
def show_workspace(ref: Ref, json: Json = False) -> None:
    """One of them: how full it is, and who has it."""
    found = _call("GET", ref)
    if json:
        show.as_json(found)
        return
    print(show.bold(found["ref"]))
    quota = (
        f"{format_size(found['quota_bytes'])}, {KINDS.get(found['quota_kind'], '')}"
        if found["quota_bytes"]
        else ""
    )
    show.facts(
        (
            ("size", f"{_size(found)}, {show.moment(found['measured_at'])}" if found["measured_at"] else ""),
            ("quota", quota),
            ("node", _node(found) or "where it is first used"),
            ("owner", found["owner"]),
            ("project", found["project"] or ""),
            ("used by", _users(found) or "nobody"),
            ("last used", show.moment(found["last_used_at"])),
            ("made", show.moment(found["created_at"])),
            ("use it", f"lease up --workspace {found['ref']}{'' if found['may_write'] else ':ro'}"),
            (
                "copy it",
                f"lease workspace export {found['ref']} > {found['name']}.tar" if found["may_manage"] else "",
            ),
        )
    )


@app.command("set")
def change(
    ref: Ref, quota: Annotated[str, typer.Option(help="The most that it may hold: 80G")], json: Json = False
) -> None:
    """Give it another quota, from its next use on."""
    made = _call("PATCH", ref, {"quota": quota})
    if json:
        show.as_json(made)
    else:
        print(f"Workspace {made['ref']} may hold {format_size(made['quota_bytes'])}.")


@app.command("export")
def export(
    ref: Ref,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Into this file; else to the standard output.")
    ] = None,
    json: Json = False,
) -> None:
    """Write all that is in it as a tar; leases may go on with it."""
    if output is None and (json or sys.stdout.isatty()):
        raise Invalid(
            "A tar is for no terminal.",
            hint=f"For example: lease workspace export {ref} -o {ref.split('/')[-1]}.tar",
        )
    with sdk() as platform:
        pieces = platform.workspaces.export(ref)
        if output is None:
            for piece in pieces:
                sys.stdout.buffer.write(piece)
            return
        size = _write(pieces, output)
    if json:
        show.as_json({"file": str(output), "bytes": size})
    else:
        print(f"{format_size(size)} of workspace {ref} are in {output}.")


@app.command("rm")
def remove(
    ref: Ref,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Delete one, for good, with all that is in it."""
    found = _call("GET", ref)
    if not yes:
        if not sys.stdin.isatty():
            raise Conflict("Nobody is there to ask.", hint=f"If you are sure: lease workspace rm {ref} --yes")
        print(f"All of {_size(found)} in workspace {found['ref']} will be gone for good.")
        if typer.prompt("Its name, to go on", default="", show_default=False) != found["ref"]:
            raise typer.Abort
    _call("DELETE", ref)
    if json:
        show.as_json(found)
    else:
        print(f"Workspace {found['ref']} is deleted.")


def _write(pieces: Iterator[bytes], output: Path) -> int:
    """Under another name until it is whole: a part of a tar is not to be taken for one."""
    part, size = output.with_name(f"{output.name}.part"), 0
    try:
        with part.open("wb") as file:
            for piece in pieces:
                size += file.write(piece)
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)
    return size


def _call(method: str, ref: str, body: dict[str, Any] | None = None) -> Any:
    from leasing.sdk.workspaces import located  # lazy: see session.client

    path, params = located(ref)
    with client() as server:
        return server.call(method, path, params=params, **({"json": body} if body else {}))


def _size(one: dict[str, Any]) -> str:
    if one["size_bytes"] is None:
        return "?" if one["last_used_at"] else "0B"
    if not one["quota_bytes"]:
        return format_size(one["size_bytes"])
    return f"{format_size(one['size_bytes'])} ({one['size_bytes'] / one['quota_bytes']:.0%})"


def _node(one: dict[str, Any]) -> str:
    return f"{one['node']} (lost)" if one.get("lost") else one["node"] or ""


def _users(one: dict[str, Any]) -> str:
    """`train, look (reads), old (suspended)`"""
    return ", ".join(
        use["lease"]
        + (" (reads)" if use["read_only"] else "")
        + (" (suspended)" if use["state"] == "suspended" else "")
        for use in one["used_by"]
    )
