"""devices held for a later range of time"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "reservations"
down_revision = "projects"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("device", sa.Column("number", sa.Integer(), sa.Identity(always=True), nullable=False))
    op.create_unique_constraint(op.f("uq_device_number"), "device", ["number"])
    op.create_table(
        "reservation",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("node_id", sa.Uuid(), nullable=False),
        sa.Column("gpu_count", sa.Integer(), nullable=False),
        sa.Column("gpu_model", sa.Text(), nullable=True),
        sa.Column("cpus_millis", sa.Integer(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), server_default="booked", nullable=False),
        sa.Column("message", sa.Text(), server_default="", nullable=False),
        sa.Column("late_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "state IN ('booked', 'used', 'cancelled', 'missed', 'over')", name=op.f("ck_reservation_state")
        ),
        sa.CheckConstraint("starts_at < ends_at", name=op.f("ck_reservation_range")),
        sa.CheckConstraint(
            "gpu_count > 0 AND cpus_millis >= 0 AND memory_bytes >= 0", name=op.f("ck_reservation_positive")
        ),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_reservation_owner_id_users")),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name=op.f("fk_reservation_project_id_project")
        ),
        sa.ForeignKeyConstraint(
            ["node_id"], ["node.id"], name=op.f("fk_reservation_node_id_node"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reservation")),
    )
    op.create_index(
        "uq_reservation_live_name",
        "reservation",
        ["name"],
        unique=True,
        postgresql_where=sa.text("state IN ('booked', 'used')"),
    )
    op.create_index(op.f("ix_reservation_starts_at"), "reservation", ["starts_at"])
    op.create_table(
        "reserved_device",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("reservation_id", sa.Uuid(), nullable=False),
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("device_number", sa.Integer(), nullable=False),
        sa.Column("during", postgresql.TSTZRANGE(), nullable=False),
        sa.Column("live", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.ForeignKeyConstraint(
            ["reservation_id"],
            ["reservation.id"],
            name=op.f("fk_reserved_device_reservation_id_reservation"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["device_id"], ["device.id"], name=op.f("fk_reserved_device_device_id_device"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reserved_device")),
    )
    op.create_index("uq_reserved_device", "reserved_device", ["reservation_id", "device_id"], unique=True)
    # A range of one number stands for equality, which gist knows only with an extension.
    op.execute(
        "ALTER TABLE reserved_device ADD CONSTRAINT ex_reserved_device_during EXCLUDE USING gist"
        " (int4range(device_number, device_number, '[]') WITH &&, during WITH &&) WHERE (live)"
    )
    op.add_column("lease", sa.Column("reservation_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(
        op.f("fk_lease_reservation_id_reservation"), "lease", "reservation", ["reservation_id"], ["id"]
    )
    op.add_column("lease", sa.Column("at_least_seconds", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("lease", "at_least_seconds")
    op.drop_column("lease", "reservation_id")
    op.drop_table("reserved_device")
    op.drop_table("reservation")
    op.drop_column("device", "number")
