"""Asking for a lease: what was written → a queued lease, or the limit that it meets."""

from __future__ import annotations

import hashlib
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from leasing import names
from leasing.errors import IdempotencyMismatch, Invalid, NameTaken
from leasing.gpus import parse_gpu
from leasing.model import IdempotencyKey, Lease
from leasing.reclaim import NEVER
from leasing.schema.lease import LeaseRequest
from leasing.service import (
    durations,
    endpoints,
    fitting,
    policies,
    projects,
    quotas,
    reservations,
    transitions,
    workspaces,
)
from leasing.service.principal import Principal
from leasing.settings.limits import LimitSettings
from leasing.states import Priority
from leasing.units import format_duration, format_size, parse_cpus, parse_duration, parse_size

RESERVED_ENV = ("LEASE_", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES")
"""Beginnings of variables that are the platform's own: a user's value could widen what the container sees."""


def request(
    session: Session,
    ask: LeaseRequest,
    *,
    principal: Principal,
    limits: LimitSettings,
    idempotency_key: str | None,
    now: datetime,
) -> Lease:
    """A queued lease for the ask, or the one that an earlier request with the same key made.

    Raises `Invalid`, `NotFound` and `NotAllowed` (project, reservation), `OverQuota`, `NeverFits`, `NameTaken`,
    `Conflict`, `IdempotencyMismatch`: roll the transaction back then.
    """
    if idempotency_key is not None:
        earlier = _answered(session, ask, principal, idempotency_key)
        if earlier is not None:
            return earlier
    project = projects.to_lease_in(session, ask.project, Priority(ask.priority), principal=principal)
    lease = _from_ask(ask, principal, limits, now)
    lease.project_id = project.id
    _check_idle(session, lease)
    gpu = parse_gpu(ask.gpu)
    lease.gpu_share = fitting.share_of_largest(session, gpu)
    quotas.check_request(session, lease, limits, now=now)
    fitting.check_fits_somewhere(
        session, gpu, lease.cpus_millis, lease.memory_bytes, node=ask.node, labels=ask.labels
    )
    if ask.reservation is not None:
        reserved = reservations.to_use(session, ask.reservation, lease, principal=principal, now=now)
        lease.reservation_id = reserved.id
    if ask.workspace is not None:
        lease.workspace_id, lease.workspace_read_only = workspaces.attach(
            session, ask.workspace, principal=principal, limits=limits
        )
    try:
        session.add(lease)
        session.flush()
    except IntegrityError as error:
        if "uq_lease_live_name" not in str(error.orig):
            raise
        raise NameTaken(
            f"There is a live lease called {lease.name!r} already.",
            hint=f"Choose another name, or see what it is, and release or resume it: lease show {lease.name}",
        ) from error
    transitions.born(
        session, lease, actor=principal.actor, message=f"{principal.name} asked for {lease.name}"
    )
    if idempotency_key is not None:
        _remember(session, ask, principal, idempotency_key, lease.id)
    return lease


def _from_ask(ask: LeaseRequest, principal: Principal, limits: LimitSettings, now: datetime) -> Lease:
    gpu = parse_gpu(ask.gpu)
    memory = parse_size(ask.memory) if ask.memory is not None else limits.default_memory_bytes
    if memory < limits.min_memory_bytes:
        raise Invalid(
            f"{ask.memory!r} is too little memory: the least is {format_size(limits.min_memory_bytes)}.",
            hint=f"Ask for --memory {format_size(limits.default_memory_bytes)}.",
        )
    shm = parse_size(ask.shm) if ask.shm is not None else None
    if shm is not None and shm > memory:
        raise Invalid(
            "shm is part of the memory and cannot be larger than it.", hint="Ask for more --memory."
        )
    if ask.until is not None:
        durations.check_end(ask.until, limits, now)
    ttl = None
    if ask.until is None:
        ttl = (
            limits.default_ttl_seconds
            if ask.ttl is None
            else durations.within(parse_duration(ask.ttl), limits)
        )
    return Lease(
        name=names.lease_name(ask.name) if ask.name is not None else names.made_up(),
        owner_id=principal.user_id,
        image=_text(ask.image, "image") or limits.default_image,
        gpu_count=gpu.count,
        gpu_model=gpu.model,
        gpu_memory_bytes=gpu.memory_bytes,
        cpus_millis=parse_cpus(ask.cpus) if ask.cpus is not None else limits.default_cpus_millis,
        memory_bytes=memory,
        shm_bytes=shm,
        command=[_text(word, "command") for word in ask.command] if ask.command else None,
        on_suspend=[_text(word, "on-suspend command") for word in ask.on_suspend] if ask.on_suspend else None,
        env=_environment(ask.env),
        port=ask.port,
        endpoint=endpoints.stored(ask.endpoint, ask.port),
        shared=ask.share,
        ttl_seconds=ttl,
        asked_seconds=ttl,
        until=ask.until,
        idle_timeout_seconds=_idle(ask.idle_timeout, limits),
        node_name=ask.node,
        node_labels=ask.labels,
        at_least_seconds=durations.within(parse_duration(ask.at_least), limits) if ask.at_least else None,
        priority=Priority(ask.priority).rank,
        preemptible=ask.preemptible,
        wait=ask.wait,
    )


def _text(text: str | None, what: str) -> str:
    if text is None:
        return ""
    if "\0" in text:
        raise Invalid(f"The {what} contains a NUL character.")
    if what == "image" and (not text.isprintable() or " " in text or text.startswith("-")):
        raise Invalid(f"{text[:60]!r} is not an image reference.", hint="lease images shows the catalogue.")
    return text


def _environment(env: dict[str, str]) -> dict[str, str]:
    for name, value in env.items():
        if name.startswith(RESERVED_ENV):
            raise Invalid(
                f"The variable {name} is the platform's own and cannot be set.",
                hint="Ask for devices with --gpu.",
            )
        _text(value, f"variable {name}")
    return env


def _idle(text: str | None, limits: LimitSettings) -> int | None:
    """None: by the policy that counts for it."""
    if text is None:
        return None
    if text == "never":
        return NEVER
    seconds = parse_duration(text)
    if seconds < limits.min_idle_timeout_seconds:
        raise Invalid(
            f"{text!r} is too short an idle time: the least is {format_duration(limits.min_idle_timeout_seconds)}.",
            hint="Write it like 30m, or never.",
        )
    return seconds


def _check_idle(session: Session, lease: Lease) -> None:
    """Raises `Invalid` if the policy that will count for the lease does not allow it the idle time that it asks for."""
    asked = lease.idle_timeout_seconds
    if asked is None:
        return
    policy = policies.for_ask(session, lease)
    longest = policy.longest_seconds
    if longest is not None and (asked == NEVER or asked > longest):
        most = format_duration(longest)
        what = "never" if asked == NEVER else format_duration(asked)
        raise Invalid(
            f"An idle time of {what} is more than policy {policy.policy} allows: the limit is {most}.",
            hint=f"Ask for --idle {most} at most, or leave --idle out: {format_duration(policy.window_seconds)}.",
        )


def _fingerprint(ask: LeaseRequest) -> str:
    return hashlib.sha256(ask.model_dump_json().encode()).hexdigest()


def _answered(session: Session, ask: LeaseRequest, principal: Principal, key: str) -> Lease | None:
    """The lease an earlier request with this key made. Takes the key's lock: of two at once, the second waits."""
    session.execute(
        sa.select(
            sa.func.pg_advisory_xact_lock(
                sa.func.hashtextextended(f"idempotency:{principal.user_id}:{key}", 0)
            )
        )
    )
    row = session.get(IdempotencyKey, (principal.user_id, key))
    if row is None:
        return None
    if row.fingerprint != _fingerprint(ask):
        raise IdempotencyMismatch(
            "That Idempotency-Key was sent before with a different request.",
            hint="Use a new key for a new request.",
        )
    return session.get_one(Lease, row.lease_id)


def _remember(session: Session, ask: LeaseRequest, principal: Principal, key: str, lease_id: UUID) -> None:
    session.add(
        IdempotencyKey(user_id=principal.user_id, key=key, fingerprint=_fingerprint(ask), lease_id=lease_id)
    )
    session.flush()
