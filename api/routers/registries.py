"""Logins at private image registries; admins only."""

from __future__ import annotations

from fastapi import APIRouter

from api.deps import Admin, Core, Unit
from leasing import secrets
from leasing.schema.cluster import RegistryIn, RegistryOut, RegistryPage
from leasing.service import registries

router = APIRouter(tags=["registries"])


@router.get("/registries", summary="Which logins there are")
def list_registries(unit: Unit, _: Admin) -> RegistryPage:
    return registries.page(unit)


@router.post("/registries", status_code=201, summary="Store a login")
def store_registry(ask: RegistryIn, unit: Unit, caller: Admin, core: Core) -> RegistryOut:
    return registries.store(unit, ask, secrets.key(core.secret_key_file()), principal=caller)


@router.delete("/registries/{host}", status_code=204, summary="Remove a login")
def remove_registry(host: str, unit: Unit, caller: Admin) -> None:
    registries.remove(unit, host, principal=caller)
