"""policies of reclaim, what leases did, who keeps them, and the outbox of warnings"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "reclaiming"
down_revision = "handover"
branch_labels = None
depends_on = None

SIGNALS = ["gpu", "cpu", "network", "endpoint", "gpu_memory", "disk", "terminal", "kernel", "keep"]
SUSPEND_REASONS = ["asked", "preempted", "failed", "idle", "expired", "drained", "device"]


def _words(table: str, column: str, words: list[str]) -> None:
    """What the column may hold; rows with another word go (signals) or are told of no reason (leases)."""
    listed = ", ".join(f"'{word}'" for word in words)
    name = op.f(f"ck_{table}_{column}")
    op.drop_constraint(name, table, type_="check")
    if table == "signal":
        op.execute(f"DELETE FROM signal WHERE kind NOT IN ({listed})")  # noqa: S608 - words of this file
    else:
        op.execute(
            f"UPDATE {table} SET {column} = 'asked' WHERE {column} NOT IN ({listed})"  # noqa: S608 - as above
        )
    nullable = "" if table == "signal" else f"{column} IS NULL OR "
    op.create_check_constraint(name, table, f"{nullable}{column} IN ({listed})")


def upgrade() -> None:
    op.create_table(
        "policy",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=True),
        sa.Column("environment", sa.Text(), nullable=True),
        sa.Column("lease_id", sa.Uuid(), nullable=True),
        sa.Column("action", sa.Text(), nullable=True),
        sa.Column("window_seconds", sa.Integer(), nullable=True),
        sa.Column("learned", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("longest_seconds", sa.Integer(), nullable=True),
        sa.Column("thresholds", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("grace_seconds", sa.Integer(), nullable=True),
        sa.Column("warnings", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.Column("hours", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.Column("protected_seconds", sa.Integer(), nullable=True),
        sa.Column("retention_seconds", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "action IS NULL OR action IN ('suspend', 'end', 'warn')", name=op.f("ck_policy_action")
        ),
        sa.CheckConstraint(
            "num_nonnulls(project_id, environment, lease_id) <= 1", name=op.f("ck_policy_subject")
        ),
        sa.CheckConstraint(
            "window_seconds >= 0 AND longest_seconds > 0 AND grace_seconds >= 0 AND protected_seconds >= 0 "
            "AND retention_seconds >= 0",
            name=op.f("ck_policy_seconds"),
        ),
        sa.ForeignKeyConstraint(
            ["lease_id"], ["lease.id"], name=op.f("fk_policy_lease_id_lease"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name=op.f("fk_policy_project_id_project"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_policy")),
        sa.UniqueConstraint("environment", name=op.f("uq_policy_environment")),
        sa.UniqueConstraint("lease_id", name=op.f("uq_policy_lease_id")),
        sa.UniqueConstraint("name", name=op.f("uq_policy_name")),
        sa.UniqueConstraint("project_id", name=op.f("uq_policy_project_id")),
    )
    op.create_index(
        "uq_policy_all",
        "policy",
        [sa.literal_column("(true)")],
        unique=True,
        postgresql_where=sa.text("num_nonnulls(project_id, environment, lease_id) = 0"),
    )
    op.create_table(
        "learned_window",
        sa.Column("policy_id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("window_seconds", sa.Integer(), nullable=False),
        sa.Column("gaps", sa.Integer(), nullable=False),
        sa.Column("learned_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["users.id"], name=op.f("fk_learned_window_owner_id_users"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["policy_id"], ["policy.id"], name=op.f("fk_learned_window_policy_id_policy"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["project.id"],
            name=op.f("fk_learned_window_project_id_project"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "policy_id", "owner_id", "project_id", "environment", name=op.f("pk_learned_window")
        ),
    )
    op.create_table(
        "activity",
        sa.Column("lease_id", sa.Uuid(), nullable=False),
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False),
        sa.Column("peaks", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.ForeignKeyConstraint(
            ["lease_id"], ["lease.id"], name=op.f("fk_activity_lease_id_lease"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("lease_id", "minute", name=op.f("pk_activity")),
    )
    op.create_index("ix_activity_minute", "activity", ["minute"], unique=False)
    op.create_table(
        "keep",
        sa.Column("lease_id", sa.Uuid(), nullable=False),
        sa.Column("command", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.Column("until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("message", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint("num_nonnulls(command, until) >= 1", name=op.f("ck_keep_something")),
        sa.ForeignKeyConstraint(
            ["lease_id"], ["lease.id"], name=op.f("fk_keep_lease_id_lease"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("lease_id", name=op.f("pk_keep")),
    )
    op.create_table(
        "notice",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("lease_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("deadline", sa.DateTime(timezone=True), nullable=False),
        sa.Column("step_seconds", sa.Integer(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("retry_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("claim_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("given_up_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("voided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint(
            "channel IN ('web', 'shell', 'mail', 'webhook', 'chat')", name=op.f("ck_notice_channel")
        ),
        sa.CheckConstraint("kind IN ('idle', 'expiry', 'retention', 'device')", name=op.f("ck_notice_kind")),
        sa.ForeignKeyConstraint(
            ["lease_id"], ["lease.id"], name=op.f("fk_notice_lease_id_lease"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notice")),
        sa.UniqueConstraint(
            "lease_id",
            "kind",
            "deadline",
            "step_seconds",
            "channel",
            name=op.f("uq_notice_lease_id_kind_deadline_step_seconds_channel"),
        ),
    )
    op.create_index(
        "ix_notice_due",
        "notice",
        ["retry_at"],
        unique=False,
        postgresql_where=sa.text("delivered_at IS NULL AND given_up_at IS NULL AND voided_at IS NULL"),
    )
    op.create_index("ix_notice_lease_id", "notice", ["lease_id", "created_at"], unique=False)
    op.create_table(
        "contact",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("sealed_address", sa.LargeBinary(), nullable=False),
        sa.Column("shown", sa.Text(), nullable=False),
        sa.Column("test_asked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "channel IN ('web', 'shell', 'mail', 'webhook', 'chat')", name=op.f("ck_contact_channel")
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_contact_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_contact")),
        sa.UniqueConstraint("user_id", "channel", name=op.f("uq_contact_user_id_channel")),
    )
    op.add_column("lease", sa.Column("on_suspend", postgresql.JSONB(none_as_null=True), nullable=True))
    op.add_column("lease", sa.Column("asked_seconds", sa.Integer(), nullable=True))
    op.add_column("lease", sa.Column("reclaim_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("lease", sa.Column("told_reclaim_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("lease", sa.Column("device_fault", sa.Text(), server_default="", nullable=False))
    op.add_column("lease", sa.Column("keeps", sa.Text(), server_default="", nullable=False))
    op.add_column("lease", sa.Column("kept_bytes", sa.BigInteger(), nullable=True))
    op.add_column("lease", sa.Column("retain_until", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "run",
        sa.Column("inapplicable", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
    )
    op.add_column(
        "traffic", sa.Column("own_bytes_total", sa.BigInteger(), server_default="0", nullable=False)
    )
    op.add_column("run_sample", sa.Column("disk_bytes_total", sa.BigInteger(), nullable=True))
    op.add_column("run_sample", sa.Column("own_bytes_total", sa.BigInteger(), nullable=True))
    op.add_column("run_sample", sa.Column("network_bytes_per_second", sa.Float(), nullable=True))
    op.add_column("signal", sa.Column("minute", sa.DateTime(timezone=True), nullable=True))
    op.add_column("signal", sa.Column("peak", sa.Float(), nullable=True))
    op.add_column("signal", sa.Column("last_peak", sa.Float(), nullable=True))
    op.add_column(
        "run", sa.Column("stop_first", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    # until now this meant never, and so it was said to people
    op.execute("UPDATE lease SET idle_timeout_seconds = 0 WHERE idle_timeout_seconds IS NULL")
    _words("signal", "kind", SIGNALS)
    _words("lease", "suspend_reason", SUSPEND_REASONS)


def downgrade() -> None:
    for column in ("last_peak", "peak", "minute"):
        op.drop_column("signal", column)
    for column in ("network_bytes_per_second", "own_bytes_total", "disk_bytes_total"):
        op.drop_column("run_sample", column)
    op.drop_column("traffic", "own_bytes_total")
    op.drop_column("run", "inapplicable")
    op.drop_column("run", "stop_first")
    op.execute("UPDATE lease SET idle_timeout_seconds = NULL WHERE idle_timeout_seconds = 0")
    _words("lease", "suspend_reason", SUSPEND_REASONS[:3])
    _words("signal", "kind", SIGNALS[:4])
    op.drop_column("lease", "on_suspend")
    op.drop_column("lease", "asked_seconds")
    op.drop_column("lease", "reclaim_at")
    op.drop_column("lease", "told_reclaim_at")
    op.drop_column("lease", "device_fault")
    op.drop_column("lease", "keeps")
    op.drop_column("lease", "kept_bytes")
    op.drop_column("lease", "retain_until")
    for table in ("contact", "notice", "keep", "activity", "learned_window", "policy"):
        op.drop_table(table)
