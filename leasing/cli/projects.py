"""`lease projects`: in whose name leases are asked for, and who belongs there."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from leasing.cli import show
from leasing.cli.session import App, Json, client
from leasing.errors import Invalid, NotFound

app = App(help="Projects: contended devices are shared between them by their weights.")

Name = Annotated[str, typer.Argument(help="The project's name.")]
User = Annotated[str, typer.Argument(help="The user's name.")]
Weight = Annotated[float | None, typer.Option(help="Its part of what is contended, against the others': 2")]
Priority = Annotated[
    str | None, typer.Option("--top-priority", help="The highest class of its leases: low, normal, high")
]


def register(to: App) -> None:
    to.add_typer(app, name="projects")


@app.command("ls")
def list_projects(
    everyone: Annotated[bool, typer.Option("--everyone", "-e", help="All there are; for admins.")] = False,
    json: Json = False,
) -> None:
    """Yours, and those that are open to all."""
    with client() as server:
        page = server.call("GET", "/projects", params={"everyone": everyone})
    if json:
        show.as_json(page)
        return
    show.table(
        ["NAME", "YOUR ROLE", "WEIGHT", "DUE NOW", "GPUS NOW", "GPU HOURS USED", "UP TO", "MEMBERS"],
        [
            [
                one["name"],
                one["role"] or ("open" if one["open"] else "-"),
                f"{one['weight']:g}",
                "-" if one["due_ratio"] is None else f"{one['due_ratio']:.0%}",
                f"{one['devices']:g}",
                f"{one['used_device_hours']:.1f}",
                one["top_priority"],
                "everybody" if one["open"] else str(len(one["members"])),
            ]
            for one in page["items"]
        ],
        empty="You are in no project. Its owner can let you in: lease projects add PROJECT USER",
    )


@app.command("create")
def create(
    name: Name,
    weight: Weight = None,
    open_: Annotated[bool, typer.Option("--open", help="Everybody may lease in its name.")] = False,
    top_priority: Priority = None,
    json: Json = False,
) -> None:
    """Make a project; for admins."""
    made = _call("POST", "projects", body={"name": name, "open": open_} | _facts(weight, top_priority))
    if json:
        show.as_json(made)
    else:
        print(f"Project {name} is made. Let somebody in: lease projects add {name} USER --role owner")


@app.command("set")
def change(
    name: Name,
    weight: Weight = None,
    open_: Annotated[
        bool | None, typer.Option("--open/--closed", help="For everybody, or for its members.")
    ] = None,
    top_priority: Priority = None,
    json: Json = False,
) -> None:
    """Change a project; for admins."""
    facts = _facts(weight, top_priority) | ({} if open_ is None else {"open": open_})
    if not facts:
        raise Invalid("Nothing is to be changed.", hint=f"For example: lease projects set {name} --weight 2")
    made = _call("PATCH", "projects", name, body=facts)
    if json:
        show.as_json(made)
    else:
        print(f"Project {name} is changed.")


@app.command("delete")
def delete(name: Name) -> None:
    """Delete a project in whose name nothing was ever leased; for admins."""
    _call("DELETE", "projects", name)
    print(f"Project {name} is deleted.")


@app.command("members")
def members(name: Name, json: Json = False) -> None:
    """Who belongs to a project."""
    with client() as server:
        page = server.call("GET", "/projects", params={"everyone": True})
    found = next((one for one in page["items"] if one["name"] == name), None)
    if found is None:
        raise NotFound(f"You see no project {name[:60]!r}.", hint="lease projects shows yours.")
    if json:
        show.as_json(found["members"])
        return
    show.table(
        ["USER", "ROLE"],
        [[one["user"], one["role"]] for one in found["members"]],
        empty=f"{'Everybody may lease there' if found['open'] else 'Nobody yet'}. "
        f"Let somebody in: lease projects add {name} USER",
    )


@app.command("add")
def add(
    name: Name,
    user: User,
    role: Annotated[str, typer.Option(help="viewer, developer, owner")] = "developer",
) -> None:
    """Let somebody in, or change their role; for its owners and admins."""
    _call("PUT", "projects", name, "members", user, body={"role": role})
    print(f"{user} is {role} of project {name}.")


@app.command("remove")
def remove(name: Name, user: User) -> None:
    """Take somebody out; for its owners and admins. Their leases go on."""
    _call("DELETE", "projects", name, "members", user)
    print(f"{user} is no member of project {name}.")


def _facts(weight: float | None, top_priority: str | None) -> dict[str, Any]:
    given = {"weight": weight, "top_priority": top_priority}
    return {key: value for key, value in given.items() if value is not None}


def _call(method: str, *path: str, body: dict[str, Any] | None = None) -> Any:
    from leasing.sdk.transport import at  # lazy: see session.client

    with client() as server:
        return server.call(method, at(*path), json=body) if body else server.call(method, at(*path))
