"""which leases ended as lost of late: what is found of them is looked for in every pass over an engine"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "lost"
down_revision = "clock_jumps"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_lease_lost", "lease", ["ended_at"], postgresql_where=sa.text("reason = 'lost'"))


def downgrade() -> None:
    op.drop_index("ix_lease_lost", "lease")
