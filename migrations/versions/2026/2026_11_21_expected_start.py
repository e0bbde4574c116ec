"""when a waiting lease will probably start"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "expected_start"
down_revision = "shares"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("lease", sa.Column("expected_start", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("lease", "expected_start")
