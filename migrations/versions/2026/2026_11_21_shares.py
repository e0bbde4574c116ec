"""asks for parts of devices"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "shares"
down_revision = "used_gpu_seconds"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("lease", sa.Column("gpu_share", sa.Integer(), server_default="1000", nullable=False))
    op.add_column("lease", sa.Column("gpu_memory_bytes", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("lease", "gpu_memory_bytes")
    op.drop_column("lease", "gpu_share")
