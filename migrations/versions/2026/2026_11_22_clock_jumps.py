"""when the clock last jumped, for a scheduler that starts after that"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "clock_jumps"
down_revision = "browser_sessions"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("installation", sa.Column("clock_jumped_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("installation", "clock_jumped_at")
