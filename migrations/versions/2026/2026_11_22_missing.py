"""since when an engine has been in its present epoch, and a container missing there"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "missing"
down_revision = "endpoints"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("node", sa.Column("engine_since", sa.DateTime(timezone=True), nullable=True))
    op.add_column("run", sa.Column("missing_since", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("run", "missing_since")
    op.drop_column("node", "engine_since")
