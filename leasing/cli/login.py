"""Signing in and out, and tokens."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import sys
from typing import Annotated
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import typer

from leasing.cli import show
from leasing.cli.session import App, Json, client, listing
from leasing.errors import Invalid, NotAllowed

tokens = App(help="Tokens: for scripts, services and other machines.")


def register(app: App) -> None:
    for name, function in (("login", login), ("logout", logout), ("whoami", whoami)):
        app.command(name)(function)
    app.add_typer(tokens, name="tokens")


def login(
    url: Annotated[
        str, typer.Argument(help="A one-time sign-in link, or the server's address with --token.")
    ],
    token: Annotated[str | None, typer.Option(help="A token you have.")] = None,
    fingerprint: Annotated[
        str | None, typer.Option(help="Of the server's own certificate, if you know it.")
    ] = None,
) -> None:
    """Sign in on this machine."""
    from leasing.sdk import credentials  # lazy: see session.client
    from leasing.sdk.transport import Transport

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Invalid(
            f"{url[:80]!r} is not an address.",
            hint="For example: lease login http://127.0.0.1:8080 --token …",
        )
    if parts.scheme == "http" and not _on_this_machine(parts.hostname):
        raise Invalid(
            f"Over http:// everybody on the way to {parts.hostname} could read your token.",
            hint=f"Use https://, or a tunnel: ssh -L 8080:127.0.0.1:8080 {parts.hostname}, then http://127.0.0.1:8080",
        )
    server = f"{parts.scheme}://{parts.netloc}"
    accepted = _accepted(server, fingerprint) if parts.scheme == "https" else None
    secret = parse_qs(parts.query).get("secret", [""])[0]
    if token is None and not secret:
        token = typer.prompt("Token", hide_input=True)
    if token is None:
        opened = Transport(credentials.Credentials(server, "", accepted))
        answer = opened.call(
            "POST", "/signin", json={"secret": secret, "label": f"cli on {socket.gethostname()}"[:80]}
        )
        token = str(answer["secret"])
    made = credentials.Credentials(server, token, accepted)
    me = Transport(made).call("GET", "/me")
    kept = credentials.save(made)
    print(f"You are signed in to {server} as {me['name']} ({me['role']}). Kept in {kept}.")


def logout() -> None:
    """Forget the token kept on this machine."""
    from leasing.sdk import credentials  # lazy: see session.client

    credentials.forget()
    print(
        "You are signed out on this machine. The token itself stays valid until revoked: lease tokens revoke ID."
    )


def whoami(json: Json = False) -> None:
    """Who you are, and where."""
    with client() as session:
        me = session.call("GET", "/me")
        if json:
            show.as_json(me | {"url": session.credentials.url})
        else:
            print(f"{me['name']} ({me['role']}) at {session.credentials.url}")


@tokens.command("create")
def create(
    label: Annotated[str, typer.Argument(help="What it is for.")],
    for_: Annotated[
        str | None, typer.Option("--for", help="How long it is good: 30d; else until revoked.")
    ] = None,
    user: Annotated[str | None, typer.Option(help="For another user; admins only.")] = None,
    json: Json = False,
) -> None:
    """Make a token; it is shown once."""
    with client() as session:
        made = session.call("POST", "/tokens", json={"label": label, "ttl": for_, "user": user})
    if json:
        show.as_json(made)
        return
    print(made["secret"])
    print("It is not shown again.", file=sys.stderr)


@tokens.command("ls")
def list_tokens(json: Json = False) -> None:
    """Your tokens and signed-in browsers."""
    listing(
        "/tokens",
        json,
        ["ID", "LABEL", "KIND", "LAST USED", "EXPIRES"],
        lambda one: [
            one["id"],
            one["label"],
            one["kind"],
            show.moment(one["last_used_at"]),
            show.moment(one["expires_at"]),
        ],
        empty="You have no tokens.",
    )


@tokens.command("revoke")
def revoke(token_id: Annotated[UUID, typer.Argument(help="From lease tokens ls.")]) -> None:
    """Make a token worthless, at once."""
    with client() as session:
        print(show.revoked(session.revoke(f"/tokens/{token_id}")))


def _on_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _accepted(server: str, given: str | None) -> str | None:
    """The fingerprint to pin: None when the certificate can be checked the usual way."""
    from leasing.sdk.transport import fingerprint_of, server_certificate  # lazy: see session.client

    parts = urlsplit(server)
    why = ""
    try:
        with (
            socket.create_connection((parts.hostname or "", parts.port or 443), 5) as plain,
            ssl.create_default_context().wrap_socket(plain, server_hostname=parts.hostname),
        ):
            pass
    except ssl.SSLCertVerificationError as error:
        why = str(error.verify_message) or "no reason given"
    except OSError:
        return None  # it does not answer, or speaks no TLS: the sign-in itself will say so
    if not why and given is None:
        return None
    shown = fingerprint_of(server_certificate(server))
    if given is not None:
        if given.replace(":", "").lower() != shown:
            raise NotAllowed(f"{server} shows another certificate: its fingerprint is {shown}.")
        return shown
    print(
        f"This machine cannot vouch for {server} ({why}). Its certificate's SHA-256 fingerprint:\n  {shown}",
        file=sys.stderr,
    )
    if not typer.confirm("Is it the one that the server printed at its start?", err=True):
        raise NotAllowed(f"{server} may be somebody else: nothing was sent to it, and nothing is kept here.")
    return shown
