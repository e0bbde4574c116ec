"""Users, tokens and signing in."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from fastapi import APIRouter

from api.deps import Admin, Caller, Core, Now, Unit
from api.openapi import OPEN, refusals
from api.revoking import ANSWERS, Settle
from leasing import __version__
from leasing.database import now as database_now
from leasing.errors import NotAllowed
from leasing.model import TokenKind
from leasing.schema.people import (
    MeOut,
    SigninIn,
    SigninLinkOut,
    TokenIn,
    TokenOut,
    TokenPage,
    UserIn,
    UserOut,
    UserPage,
    UserPatch,
)
from leasing.service import people, projects
from leasing.units import parse_duration

router = APIRouter(tags=["people"])


@router.get("/me", summary="Who you are")
def me(unit: Unit, caller: Caller, core: Core) -> MeOut:
    return MeOut(
        name=caller.name,
        role=caller.role,
        version=__version__,
        gateway_url=core.gateway_url,
        projects=projects.mine(unit, principal=caller),
    )


@router.post(
    "/signin",
    status_code=201,
    summary="Exchange a one-time link for a token",
    openapi_extra=OPEN,
    responses=refusals(401),
)
def sign_in(ask: SigninIn, unit: Unit) -> TokenOut:
    made, _ = people.sign_in(unit, ask.secret, TokenKind.API, ask.label, now=database_now(unit))
    return made


@router.get("/users", summary="Everybody")
def list_users(unit: Unit, _: Admin) -> UserPage:
    return people.users(unit)


@router.post("/users", status_code=201, summary="Make a user", responses=refusals(409))
def create_user(ask: UserIn, unit: Unit, caller: Admin) -> UserOut:
    return people.create_user(unit, ask, principal=caller)


@router.patch("/users/{name}", summary="Change a user", responses=refusals(409) | {200: ANSWERS})
def change_user(name: str, ask: UserPatch, unit: Unit, caller: Admin, now: Now, settle: Settle) -> UserOut:
    """Who is disabled is out of every endpoint with the answer."""
    found = people.update_user(unit, name, ask, principal=caller, now=now)
    settle()
    return found


@router.post(
    "/users/{name}/signin-link",
    status_code=201,
    summary="Make a one-time sign-in link",
    responses=refusals(409),
)
def make_link(name: str, unit: Unit, caller: Caller, now: Now, core: Core) -> SigninLinkOut:
    """Admins for anybody, everyone for themselves (to sign in on another machine)."""
    if not caller.admin and name != caller.name:
        raise NotAllowed("Only admins make sign-in links for others.")
    secret, expires_at = people.signin_secret(unit, name, now=now, actor=caller.actor)
    return SigninLinkOut(url=f"{core.url}/signin?secret={secret}", expires_at=expires_at)


@router.get("/tokens", summary="Your tokens")
def list_tokens(unit: Unit, caller: Caller) -> TokenPage:
    return people.tokens(unit, caller)


@router.post("/tokens", status_code=201, summary="Make a token", responses=refusals(404, 409))
def create_token(ask: TokenIn, unit: Unit, caller: Caller, now: Now) -> TokenOut:
    """Its secret is in this answer and nowhere else."""
    expires_at = now + timedelta(seconds=parse_duration(ask.ttl)) if ask.ttl else None
    return people.create_token(unit, caller, label=ask.label, user=ask.user, expires_at=expires_at)


@router.delete("/tokens/{token_id}", status_code=204, summary="Revoke a token", responses={204: ANSWERS})
def revoke_token(token_id: UUID, unit: Unit, caller: Caller, now: Now, settle: Settle) -> None:
    people.revoke_token(unit, caller, token_id, now=now)
    settle()
