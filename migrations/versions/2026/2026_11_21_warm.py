"""warm containers and network sandboxes"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "warm"
down_revision = "workspaces"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "warm",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("node_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="making", nullable=False),
        sa.Column("image", sa.Text(), nullable=True),
        sa.Column("image_id", sa.Text(), nullable=True),
        sa.Column("device_id", sa.Uuid(), nullable=True),
        sa.Column("cpus_millis", sa.Integer(), server_default="0", nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("maker_id", sa.Uuid(), nullable=True),
        sa.Column("container_id", sa.Text(), nullable=True),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("epoch", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ready_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("role IN ('sandbox', 'warm')", name=op.f("ck_warm_role")),
        sa.CheckConstraint("state IN ('making', 'ready', 'taken', 'spent')", name=op.f("ck_warm_state")),
        sa.ForeignKeyConstraint(
            ["device_id"], ["device.id"], name=op.f("fk_warm_device_id_device"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["maker_id"], ["part.id"], name=op.f("fk_warm_maker_id_part"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["node_id"], ["node.id"], name=op.f("fk_warm_node_id_node"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_warm")),
    )
    op.create_index(
        "ix_warm_ready",
        "warm",
        ["node_id", "role"],
        unique=False,
        postgresql_where=sa.text("state = 'ready'"),
    )
    op.create_index("ix_warm_device_id", "warm", ["device_id"], unique=False)
    op.create_table(
        "warm_pool",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("image", sa.Text(), nullable=False),
        sa.Column("node_id", sa.Uuid(), nullable=True),
        sa.Column("gpu_model", sa.Text(), nullable=True),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("cpus_millis", sa.Integer(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("count BETWEEN 1 AND 64", name=op.f("ck_warm_pool_count")),
        sa.ForeignKeyConstraint(
            ["node_id"], ["node.id"], name=op.f("fk_warm_pool_node_id_node"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_warm_pool")),
        sa.UniqueConstraint(
            "image",
            "node_id",
            "gpu_model",
            name=op.f("uq_warm_pool_image_node_id_gpu_model"),
            postgresql_nulls_not_distinct=True,
        ),
    )
    op.add_column("run", sa.Column("warm_id", sa.Uuid(), nullable=True))
    op.add_column("run", sa.Column("ready", sa.Text(), nullable=True))
    op.create_index("uq_run_warm_id", "run", ["warm_id"], unique=True)
    op.create_foreign_key(
        op.f("fk_run_warm_id_warm"), "run", "warm", ["warm_id"], ["id"], ondelete="SET NULL"
    )


def downgrade() -> None:
    op.drop_constraint(op.f("fk_run_warm_id_warm"), "run", type_="foreignkey")
    op.drop_index("uq_run_warm_id", table_name="run")
    op.drop_column("run", "ready")
    op.drop_column("run", "warm_id")
    op.drop_table("warm_pool")
    op.drop_table("warm")
