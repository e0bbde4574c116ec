"""Users, their tokens, and signing in. Secrets are opaque, stored as SHA-256 only, and so revocable at once."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from leasing.errors import Conflict, NameTaken, NotAllowed, NotFound, NotSignedIn
from leasing.model import Token, TokenKind, User
from leasing.names import user_name
from leasing.schema.people import TokenOut, TokenPage, UserIn, UserOut, UserPage, UserPatch
from leasing.service import events
from leasing.service.principal import Principal
from leasing.states import Role

SIGNIN_LASTS = timedelta(minutes=15)
SESSION_LASTS = timedelta(days=30)
FORGOTTEN_AFTER = timedelta(days=30)
FIRST_ADMIN = "admin"
SECRET = re.compile(r"lse_[A-Za-z0-9_-]{43}")

# The one statement every call pays for. `last_used_at` moves once a minute at most, in the same round trip; of many
# calls at once one moves it, and the others do not wait for its transaction.
AUTHENTICATE = sa.text("""
    WITH found AS (
        SELECT t.id, t.last_used_at, t.lease_id, u.id AS user_id, u.name, u.role
        FROM token t JOIN users u ON u.id = t.user_id
        WHERE t.hash = :hash AND t.kind IN ('api', 'session', 'lease')
          AND t.revoked_at IS NULL AND u.disabled_at IS NULL
          AND (t.expires_at IS NULL OR t.expires_at > now())
    ), stale AS (
        SELECT token.id FROM token JOIN found ON found.id = token.id
        WHERE found.last_used_at IS NULL OR found.last_used_at < now() - interval '1 minute'
        FOR NO KEY UPDATE OF token SKIP LOCKED
    ), used AS (
        UPDATE token SET last_used_at = now() FROM stale WHERE token.id = stale.id
    )
    SELECT id, lease_id, user_id, name, role, now() AS now FROM found
""")


@dataclass(frozen=True)
class SignedIn:
    """Who a secret stands for, and the database's clock when it said so."""

    principal: Principal
    now: datetime


def is_secret(text: str) -> bool:
    """Whether it looks like one: what does not need not be looked for."""
    return SECRET.fullmatch(text) is not None


def hashed(secret: str) -> bytes:
    """What is stored of a secret."""
    return hashlib.sha256(secret.encode()).digest()


def authenticate(session: Session, secret: str) -> SignedIn:
    """Who that secret stands for. Raises `NotSignedIn`."""
    row = session.execute(AUTHENTICATE, {"hash": hashed(secret)}).one_or_none()
    if row is None:
        raise NotSignedIn(
            "That token is not valid: it was revoked, has expired, or never was one.",
            hint="Sign in: lease login URL",
        )
    who = Principal(
        user_id=row.user_id, name=row.name, role=Role(row.role), token_id=row.id, lease_id=row.lease_id
    )
    return SignedIn(who, row.now)


def bootstrap_admin(session: Session) -> str:
    """The name of an admin who can sign in; the user `admin` is made when there is no user at all."""
    if session.execute(sa.select(sa.func.count()).select_from(User)).scalar_one() == 0:
        session.add(User(name=FIRST_ADMIN, role=Role.ADMIN))
        session.flush()
        events.record(session, "user.created", f"made the first admin, {FIRST_ADMIN}", actor="system")
    return session.execute(
        sa.select(User.name)
        .where(User.role == Role.ADMIN, User.disabled_at.is_(None))
        .order_by(User.created_at)
        .limit(1)
    ).scalar_one()


def issue(
    session: Session,
    user_id: UUID,
    kind: TokenKind,
    label: str,
    *,
    expires_at: datetime | None,
    lease_id: UUID | None = None,
    opened_by: UUID | None = None,
) -> tuple[Token, str]:
    """A new secret for a user, never to be seen again; good for one lease's endpoint only if that is given, and not
    for longer than the token that it was opened by."""
    secret = f"lse_{secrets.token_urlsafe(32)}"
    token = Token(
        user_id=user_id,
        kind=kind,
        hash=hashed(secret),
        label=label[:80],
        lease_id=lease_id,
        opened_by=opened_by,
        expires_at=expires_at,
    )
    session.add(token)
    session.flush()
    return token, secret


def signin_secret(session: Session, name: str, *, now: datetime, actor: str) -> tuple[str, datetime]:
    """The secret of a one-time link for that user, and until when it is good. Raises `NotFound`, `Conflict`."""
    user = _enabled(session, name)
    expires_at = now + SIGNIN_LASTS
    _, secret = issue(session, user.id, TokenKind.SIGNIN, "sign-in link", expires_at=expires_at)
    events.record(session, "user.signin_link", f"a sign-in link was made for {name}", actor=actor)
    return secret, expires_at


def sign_in(
    session: Session, secret: str, kind: TokenKind, label: str, *, now: datetime
) -> tuple[TokenOut, str]:
    """Use a one-time secret up for a lasting one. Raises `NotSignedIn`; of two at once, one gets it."""
    user_id = session.execute(
        sa.update(Token)
        .where(
            Token.hash == hashed(secret),
            Token.kind == TokenKind.SIGNIN,
            Token.lease_id.is_(None),  # a ticket to one endpoint signs nobody in
            Token.revoked_at.is_(None),
            Token.expires_at > now,
        )
        .values(revoked_at=now)
        .returning(Token.user_id)
    ).scalar_one_or_none()
    user = session.get(User, user_id) if user_id else None
    if user is None or user.disabled_at is not None:
        raise NotSignedIn(
            "That sign-in link was used already or is too old.",
            hint="Make a new one on the server: lease admin signin-link NAME",
        )
    expires_at = now + SESSION_LASTS if kind is TokenKind.SESSION else None
    token, lasting = issue(session, user.id, kind, label, expires_at=expires_at)
    events.record(session, "user.signed_in", f"{user.name} signed in ({label})", actor=f"user:{user.name}")
    session.refresh(token)
    return token_out(token, user.name, lasting), lasting


def create_token(
    session: Session, principal: Principal, *, label: str, user: str | None, expires_at: datetime | None
) -> TokenOut:
    """A token of one's own; admins may make one for others. Raises `NotAllowed`, `NotFound`, `Conflict`."""
    if user is not None and user != principal.name and not principal.admin:
        raise NotAllowed("Only admins make tokens for others.")
    owner = _enabled(session, user or principal.name)
    token, secret = issue(session, owner.id, TokenKind.API, label, expires_at=expires_at)
    events.record(
        session, "token.created", f"{principal.name} made a token for {owner.name}", actor=principal.actor
    )
    session.refresh(token)
    return token_out(token, owner.name, secret)


def tokens(session: Session, principal: Principal) -> TokenPage:
    """One's own valid tokens and sessions, newest first."""
    rows = session.execute(
        sa.select(Token)
        .where(
            Token.user_id == principal.user_id,
            Token.kind.in_([TokenKind.API, TokenKind.SESSION]),
            Token.revoked_at.is_(None),
            sa.or_(Token.expires_at.is_(None), Token.expires_at > sa.func.now()),
        )
        .order_by(Token.created_at.desc())
        .limit(500)
    ).scalars()
    return TokenPage(items=[token_out(token, principal.name, None) for token in rows])


def revoke_token(session: Session, principal: Principal, token_id: UUID, *, now: datetime) -> None:
    """In force with the commit, for the endpoints that were opened with it as well. Idempotent.

    Raises `NotFound` for what is not one's own (admins: anybody's).
    """
    token = session.get(Token, token_id)
    if token is None or (token.user_id != principal.user_id and not principal.admin):
        raise NotFound("You have no such token.", hint="lease tokens ls shows them.")
    if token.revoked_at is None:
        token.revoked_at = now
        session.flush()  # first: whoever is just being let in with it is waited for, and then seen
        opened = sa.update(Token).where(Token.opened_by == token_id, Token.revoked_at.is_(None))
        session.execute(opened.values(revoked_at=now))
        message = f"{principal.name} revoked the token {token.label!r}"
        events.record(session, "token.revoked", message, actor=principal.actor)


def prune(session: Session, *, now: datetime) -> None:
    """Forget tokens that have been good for nothing for a while: the gateway looks through all of them."""
    before = now - FORGOTTEN_AFTER
    session.execute(sa.delete(Token).where(sa.or_(Token.revoked_at < before, Token.expires_at < before)))


def users(session: Session) -> UserPage:
    """Everybody, by name."""
    rows = session.execute(sa.select(User).order_by(User.name)).scalars()
    return UserPage(items=[UserOut.model_validate(user) for user in rows])


def create_user(session: Session, ask: UserIn, *, principal: Principal) -> UserOut:
    """Raises `Invalid`, `NameTaken`."""
    user = User(name=user_name(ask.name), role=ask.role)
    try:
        with session.begin_nested():
            session.add(user)
    except IntegrityError as error:
        raise NameTaken(f"There is a user called {ask.name!r} already.") from error
    events.record(
        session,
        "user.created",
        f"{principal.name} made the user {user.name} ({user.role})",
        actor=principal.actor,
    )
    session.refresh(user)
    return UserOut.model_validate(user)


def update_user(
    session: Session, name: str, ask: UserPatch, *, principal: Principal, now: datetime
) -> UserOut:
    """Raises `NotFound`, and `Conflict` for what would leave no admin."""
    # all admins are locked: of two who demote each other, the second sees the first
    session.execute(sa.select(User.id).where(User.role == Role.ADMIN).order_by(User.id).with_for_update())
    user = _user(session, name)
    if ask.role is not None:
        user.role = ask.role
    if ask.disabled is not None:
        user.disabled_at = (user.disabled_at or now) if ask.disabled else None
    session.flush()
    admins = sa.select(sa.func.count()).where(User.role == Role.ADMIN, User.disabled_at.is_(None))
    if session.execute(admins).scalar_one() == 0:
        raise Conflict(f"{name} is the last admin.", hint="Make another user an admin first.")
    said = ", ".join(f"{field}={getattr(ask, field)}" for field in sorted(ask.model_fields_set))
    events.record(session, "user.changed", f"{principal.name} changed {name}: {said}", actor=principal.actor)
    return UserOut.model_validate(user)


def _user(session: Session, name: str) -> User:
    user = session.execute(sa.select(User).where(User.name == name)).scalar_one_or_none()
    if user is None:
        raise NotFound(f"There is no user {name[:60]!r}.", hint="lease admin users ls shows them.")
    return user


def _enabled(session: Session, name: str) -> User:
    user = _user(session, name)
    if user.disabled_at is not None:
        raise Conflict(
            f"{name} is disabled.", hint=f"Enable them first: lease admin users change {name} --enable"
        )
    return user


def token_out(token: Token, user: str, secret: str | None) -> TokenOut:
    """A token of that user's; its secret only for who just made it."""
    return TokenOut(
        id=token.id,
        user=user,
        label=token.label,
        kind=token.kind,
        created_at=token.created_at,
        expires_at=token.expires_at,
        last_used_at=token.last_used_at,
        secret=secret,
    )
