"""hours of use, of leases and of devices, and prices"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "usage"
down_revision = "warm"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "usage_hour",
        sa.Column("lease_id", sa.Uuid(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("allocated_seconds", sa.Double(), server_default="0", nullable=False),
        sa.Column("used_seconds", sa.Double(), nullable=True),
        sa.Column("cpu_allocated_seconds", sa.Double(), server_default="0", nullable=False),
        sa.Column("cpu_used_seconds", sa.Double(), nullable=True),
        sa.Column("memory_allocated_byte_seconds", sa.Double(), server_default="0", nullable=False),
        sa.Column("memory_used_byte_seconds", sa.Double(), nullable=True),
        sa.Column("sealed", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.CheckConstraint(
            "allocated_seconds >= 0 AND used_seconds >= 0", name=op.f("ck_usage_hour_seconds")
        ),
        sa.ForeignKeyConstraint(
            ["lease_id"], ["lease.id"], name=op.f("fk_usage_hour_lease_id_lease"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("lease_id", "hour", "model", name=op.f("pk_usage_hour")),
    )
    op.create_index("ix_usage_hour_hour", "usage_hour", ["hour"], unique=False)
    op.create_table(
        "device_hour",
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("leased", sa.Double(), server_default="0", nullable=False),
        sa.Column("held", sa.Double(), server_default="0", nullable=False),
        sa.Column("free", sa.Double(), server_default="0", nullable=False),
        sa.Column("foreign_use", sa.Double(), server_default="0", nullable=False),
        sa.Column("out", sa.Double(), server_default="0", nullable=False),
        sa.Column("unknown", sa.Double(), server_default="0", nullable=False),
        sa.Column("counted_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sealed", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.CheckConstraint(
            "leased >= 0 AND held >= 0 AND free >= 0 AND foreign_use >= 0 AND out >= 0 AND unknown >= 0",
            name=op.f("ck_device_hour_classes"),
        ),
        sa.ForeignKeyConstraint(
            ["device_id"], ["device.id"], name=op.f("fk_device_hour_device_id_device"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("device_id", "hour", name=op.f("pk_device_hour")),
    )
    op.create_index("ix_device_hour_hour", "device_hour", ["hour"], unique=False)
    op.create_table(
        "price",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("per_hour", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("model", name=op.f("pk_price")),
    )


def downgrade() -> None:
    for table in ("price", "device_hour", "usage_hour"):
        op.drop_table(table)
