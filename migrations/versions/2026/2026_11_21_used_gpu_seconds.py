"""seconds that a run's devices were busy"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "used_gpu_seconds"
down_revision = "usage_triggers"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("run_sample", sa.Column("gpu_used_seconds_total", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("run_sample", "gpu_used_seconds_total")
