"""Where the caller is told of warnings, beside the pages and the shell."""

from __future__ import annotations

from fastapi import APIRouter

from api.deps import Caller, Core, Notify, Now, Unit
from leasing import secrets
from leasing.schema.notice import ContactIn, ContactOut, ContactPage
from leasing.service import contacts

router = APIRouter(tags=["contacts"])


@router.get("/contacts", summary="Where you are told of warnings")
def list_contacts(unit: Unit, caller: Caller, notify: Notify) -> ContactPage:
    return contacts.page(unit, notify, principal=caller)


@router.put("/contacts/{channel}", summary="Say where you want to be told")
def store_contact(
    channel: str, ask: ContactIn, unit: Unit, caller: Caller, notify: Notify, core: Core
) -> ContactOut:
    """The address replaces the one before. A webhook's answer has the key of its signature, this once."""
    fernet = secrets.key(core.secret_key_file())
    return contacts.store(unit, channel, ask.address, fernet, notify, principal=caller)


@router.post("/contacts/{channel}/test", summary="Send a message there that tries it")
def test_contact(channel: str, unit: Unit, caller: Caller, now: Now) -> ContactOut:
    """It is sent soon after; `testing` ends when it is known how it went, and `error` says so."""
    return contacts.test(unit, channel, principal=caller, now=now)


@router.delete("/contacts/{channel}", status_code=204, summary="Be told there no more")
def remove_contact(channel: str, unit: Unit, caller: Caller) -> None:
    contacts.remove(unit, channel, principal=caller)
