"""the proof that a device is clean, what a lease uses of a device, suspension, and how good forecasts are"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "handover"
down_revision = "reservations"
branch_labels = None
depends_on = None

REPLACED = "share_used = s.share, memory_used_bytes = s.memory"
RELEASED = (
    "share_used = s.share, memory_used_bytes = s.memory,"
    " released_at = CASE WHEN s.share < share_used THEN clock_timestamp() ELSE device_usage.released_at END"
)


def _device_usage(before: str, after: str) -> None:
    """Replace a piece of the trigger's function, which is written in an earlier revision."""
    source = (
        op.get_bind()
        .execute(sa.text("SELECT pg_get_functiondef('device_usage_apply'::regproc)"))
        .scalar_one()
    )
    assert before in source, "the function is as the earlier revision left it"
    op.execute(source.replace(before, after))


def upgrade() -> None:
    op.add_column("device_usage", sa.Column("released_at", sa.DateTime(timezone=True), nullable=True))
    _device_usage(REPLACED, RELEASED)
    op.add_column("device", sa.Column("cleared_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("device", sa.Column("floor_bytes", sa.BigInteger(), nullable=True))
    op.add_column(
        "device", sa.Column("faults", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False)
    )
    op.add_column("device", sa.Column("quarantined_since", sa.DateTime(timezone=True), nullable=True))
    op.add_column("device", sa.Column("quarantine_reason", sa.Text(), server_default="", nullable=False))
    op.create_table(
        "allocation_sample",
        sa.Column("allocation_id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("memory_used_bytes", sa.BigInteger(), nullable=False),
        sa.Column("over_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("warned_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["allocation_id"],
            ["allocation.id"],
            name=op.f("fk_allocation_sample_allocation_id_allocation"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("allocation_id", name=op.f("pk_allocation_sample")),
    )
    op.create_table(
        "forecast",
        sa.Column("lease_id", sa.Uuid(), nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expected_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("latest_start", sa.DateTime(timezone=True), nullable=True),
        sa.Column("foreseen_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ahead", sa.Integer(), nullable=False),
        sa.Column("placed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["lease_id"], ["lease.id"], name=op.f("fk_forecast_lease_id_lease"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("lease_id", "told_at", name=op.f("pk_forecast")),
    )
    op.create_index(op.f("ix_forecast_placed_at"), "forecast", ["placed_at"])
    op.add_column("lease", sa.Column("suspended_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("lease", sa.Column("suspend_reason", sa.Text(), nullable=True))
    op.create_check_constraint(
        op.f("ck_lease_suspend_reason"),
        "lease",
        "suspend_reason IS NULL OR suspend_reason IN ('asked', 'preempted', 'failed')",
    )
    op.add_column("lease", sa.Column("kept_node_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(op.f("fk_lease_kept_node_id_node"), "lease", "node", ["kept_node_id"], ["id"])
    op.add_column("lease", sa.Column("kept_container", sa.Text(), nullable=True))
    op.add_column("lease", sa.Column("kept_image", sa.Text(), nullable=True))


def downgrade() -> None:
    for column in ("kept_image", "kept_container", "kept_node_id", "suspend_reason", "suspended_at"):
        op.drop_column("lease", column)
    op.drop_table("forecast")
    op.drop_table("allocation_sample")
    for column in ("quarantine_reason", "quarantined_since", "faults", "floor_bytes", "cleared_at"):
        op.drop_column("device", column)
    _device_usage(RELEASED, REPLACED)
    op.drop_column("device_usage", "released_at")
