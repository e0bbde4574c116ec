"""Who acts."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from leasing.states import Role


@dataclass(frozen=True)
class Principal:
    """A signed-in user, by which of their tokens. `lease_id` narrows it to one lease's endpoint."""

    user_id: UUID
    name: str
    role: Role
    token_id: UUID
    lease_id: UUID | None = None

    @property
    def admin(self) -> bool:
        return self.role is Role.ADMIN

    @property
    def actor(self) -> str:
        """As events name it."""
        return f"user:{self.name}"
