"""`lease admin`: people, quotas, nodes, devices and registries; for admins."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from leasing.cli import quotas, show, usage
from leasing.cli.session import App, Json, client, listing
from leasing.errors import Conflict, Invalid, NotFound
from leasing.units import format_size

app = App(help="For admins.")
users = App(help="People.")
nodes = App(help="Machines.")
devices = App(help="GPUs.")
registries = App(help="Logins at private image registries.")
for group, name in (
    (users, "users"), (quotas.limits, "quotas"), (nodes, "nodes"), (devices, "devices"), (registries, "registries"),
):  # fmt: skip
    app.add_typer(group, name=name)

usage.register_admin(app)

Name = Annotated[str, typer.Argument(help="Its name.")]


def register(to: App) -> None:
    to.add_typer(app, name="admin")


@users.command("ls")
def list_users(json: Json = False) -> None:
    """Everybody."""
    listing(
        "/users",
        json,
        ["NAME", "ROLE", "STATE"],
        lambda one: [
            one["name"],
            one["role"],
            "disabled" if one["disabled_at"] else "active",
        ],
        empty="There is nobody.",
    )


@users.command("create")
def create_user(
    name: Name,
    admin: Annotated[bool, typer.Option("--admin", help="May do everything.")] = False,
    json: Json = False,
) -> None:
    """Make a user, and a link to sign in with."""
    with client() as session:
        body = {"name": name, "role": "admin" if admin else "developer"}
        made = session.call("POST", "/users", json=body)
        link = session.call("POST", _at("users", name, "signin-link"))
    if json:
        show.as_json(made | {"signin_link": link["url"]})
        return
    print(f"{name} ({made['role']}) may sign in once, within 15 minutes, with\n  {link['url']}")


@users.command("change")
def change_user(
    name: Name,
    role: Annotated[str | None, typer.Option(help="admin or developer")] = None,
    disabled: Annotated[
        bool | None, typer.Option("--disable/--enable", help="Lock out, or let in again.")
    ] = None,
) -> None:
    """Change a role, lock somebody out, or let them in again."""
    body: dict[str, object] = {}
    if role is not None:
        body["role"] = role
    if disabled is not None:
        body["disabled"] = disabled
    with client() as session:
        session.call("PATCH", _at("users", name), json=body)
    print(f"{name} is changed.")


@users.command("signin-link")
def signin_link(name: Name) -> None:
    """A new one-time link for somebody."""
    with client() as session:
        print(session.call("POST", _at("users", name, "signin-link"))["url"])


@nodes.command("ls")
def list_nodes(json: Json = False) -> None:
    """The machines."""
    listing(
        "/nodes",
        json,
        [
            "NAME",
            "HEALTH",
            "INTENT",
            "FREE GPUS",
            "CPUS LEASED",
            "MEMORY LEASED",
            "NVIDIA",
            "DISK QUOTAS",
            "LABELS",
        ],
        lambda one: [
            one["name"],
            one["health"],
            one["intent"],
            f"{one['devices_free']} of {one['devices']}",
            f"{one['cpus_used']:g} of {one['cpus']:g}",
            f"{format_size(one['memory_used_bytes'])} of {format_size(one['memory_bytes'])}",
            one["gpu"],
            f"enforced ({one['disk_quota']})" if one.get("disk_quota") else "watched",
            show.labels(one.get("labels", {})),
        ],
        empty="No node has joined.",
    )


@nodes.command("label")
def label_node(
    name: Name, changes: Annotated[list[str], typer.Argument(help="KEY=VALUE sets, KEY- takes away.")]
) -> None:
    """Say what a node is, for leases that ask for it with --label."""
    wanted: dict[str, str | None] = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals and not key.endswith("-"):
            raise Invalid(
                f"{change[:60]!r} is neither KEY=VALUE nor KEY-.",
                hint=f"For example: lease admin nodes label {name} disk=fast",
            )
        wanted[key if equals else key[:-1]] = value if equals else None
    with client() as session:
        page = session.call("PATCH", _at("nodes", name), json={"labels": wanted})
    labels = next(one["labels"] for one in page["items"] if one["name"] == name)
    print(f"Node {name} has {show.labels(labels) or 'no labels'}.")


@nodes.command("cordon")
def cordon_node(name: Name) -> None:
    """Place nothing new there."""
    _node(name, "cordoned")


@nodes.command("drain")
def drain_node(name: Name) -> None:
    """Place nothing new there, and suspend what runs there: it goes on elsewhere."""
    _node(name, "draining")
    print(
        f"{show.GAP}What runs there is suspended, and goes on elsewhere with its files where there is room."
    )
    print(f"{show.GAP}Afterwards: lease admin nodes open {name}")


@nodes.command("open")
def open_node(name: Name) -> None:
    """Place there again."""
    _node(name, "open")


@nodes.command("lost")
def give_up_node(
    name: Name, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False
) -> None:
    """Give up one that does not come back: its leases end as lost, with all that they kept there."""
    with client() as session:
        page = session.call("GET", "/nodes")
        found = next((one for one in page["items"] if one["name"] == name), None)
        if found is None:
            raise NotFound(f"There is no node {name[:60]!r}.", hint="lease admin nodes ls shows them.")
        goes = f"{_count(found['leases'], 'lease')} and {_count(found['workspaces'], 'workspace')}"
        if found["health"] != "ready" and not yes:
            if not sys.stdin.isatty():
                raise Conflict(
                    "Nobody is there to ask.", hint=f"If you are sure: lease admin nodes lost {name} --yes"
                )
            print(f"Node {name} has {goes}. The leases end as lost, and their files are given up.")
            if typer.prompt("Its name, to go on", default="", show_default=False) != name:
                raise typer.Abort
        session.call("PATCH", _at("nodes", name), json={"lost": True})
    print(f"Node {name} is lost, with {goes}.")
    print(f"{show.GAP}Should it answer again, what is left there of ended leases is removed.")
    print(f"{show.GAP}To place there again then: lease admin nodes open {name}")


@devices.command("ls")
def list_devices(json: Json = False) -> None:
    """The GPUs, and who holds them."""
    listing(
        "/devices",
        json,
        ["NODE", "GPU", "MODEL", "STATE", "WHY", "USE", "UUID"],
        lambda one: [
            one["node"],
            str(one["index"]),
            one["model"],
            one["state"],
            one["state_reason"],
            "-" if one["utilization_ratio"] is None else f"{one['utilization_ratio']:.0%}",
            one["uuid"],
        ],
        empty="No node has a GPU that NVML knows.",
    )


@devices.command("cordon")
def cordon_device(uuid: Annotated[str, typer.Argument(help="From lease admin devices ls.")]) -> None:
    """Lease it no more, once it is free."""
    _device(uuid, "cordoned")


@devices.command("open")
def open_device(uuid: Annotated[str, typer.Argument(help="From lease admin devices ls.")]) -> None:
    """Lease it again."""
    _device(uuid, "open")


@devices.command("clear")
def clear_device(uuid: Annotated[str, typer.Argument(help="From lease admin devices ls.")]) -> None:
    """Take a quarantined one's faults, and the memory it uses now, for what is usual."""
    with client() as session:
        session.call("PATCH", _at("devices", uuid), json={"clear": True})
    print(f"Device {uuid} is judged anew by its node's next report. See: lease admin devices ls")


@registries.command("ls")
def list_registries(json: Json = False) -> None:
    """Which logins there are."""
    listing(
        "/registries",
        json,
        ["REGISTRY", "USER"],
        lambda one: [one["host"], one["username"]],
        empty="None. Add one: lease admin registries add HOST USER < secret-file",
    )


@registries.command("add")
def add_registry(
    host: Annotated[str, typer.Argument(help="As image references name it; docker.io for Docker Hub.")],
    username: Annotated[str, typer.Argument(help="The user there.")],
) -> None:
    """Store a login; the secret is asked for, or read from a pipe, and never an argument."""
    secret = typer.prompt("Secret", hide_input=True) if sys.stdin.isatty() else sys.stdin.read().strip()
    with client() as session:
        session.call("POST", "/registries", json={"host": host, "username": username, "secret": secret})
    print(f"Images of {host} are pulled as {username}.")


@registries.command("rm")
def remove_registry(host: Annotated[str, typer.Argument(help="From lease admin registries ls.")]) -> None:
    """Forget a login."""
    with client() as session:
        session.call("DELETE", _at("registries", host))
    print(f"The login for {host} is forgotten.")


def _at(*parts: str) -> str:
    from leasing.sdk.transport import at  # lazy: see session.client

    return at(*parts)


def _node(name: str, intent: str) -> None:
    with client() as session:
        session.call("PATCH", _at("nodes", name), json={"intent": intent})
    print(f"Node {name} is {intent}.")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _device(uuid: str, intent: str) -> None:
    with client() as session:
        session.call("PATCH", _at("devices", uuid), json={"intent": intent})
    print(f"Device {uuid} is {intent}.")
