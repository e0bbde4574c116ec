"""the installation, people, nodes, devices and leases"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "first_schema"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "installation",
        sa.Column("singleton", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("singleton", name=op.f("ck_installation_singleton")),
        sa.PrimaryKeyConstraint("singleton", name=op.f("pk_installation")),
    )
    op.create_table(
        "node",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("driver", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("health", sa.Text(), server_default="unreachable", nullable=False),
        sa.Column("health_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("intent", sa.Text(), server_default="open", nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=True),
        sa.Column(
            "engine", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("engine_seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sampler_seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "sampler", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column(
            "topology",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("health IN ('ready', 'unreachable', 'lost')", name=op.f("ck_node_health")),
        sa.CheckConstraint("intent IN ('open', 'cordoned', 'draining')", name=op.f("ck_node_intent")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_node")),
        sa.UniqueConstraint("name", name=op.f("uq_node_name")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_node_token_hash")),
    )
    op.create_table(
        "part",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_part")),
    )
    op.create_table(
        "registry_credential",
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("sealed_secret", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("host", name=op.f("pk_registry_credential")),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("max_devices", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("role IN ('admin', 'developer')", name=op.f("ck_users_role")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("name", name=op.f("uq_users_name")),
    )
    op.create_table(
        "device",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("node_id", sa.Uuid(), nullable=False),
        sa.Column("uuid", sa.Text(), nullable=False),
        sa.Column("parent_uuid", sa.Text(), nullable=True),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("numa_node", sa.Integer(), nullable=True),
        sa.Column("pci_bus_id", sa.Text(), nullable=True),
        sa.Column("mig_enabled", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("health", sa.Text(), nullable=False),
        sa.Column("health_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("intent", sa.Text(), server_default="open", nullable=False),
        sa.Column("foreign_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "foreign_processes",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
        ),
        sa.Column("utilization_ratio", sa.Double(), nullable=True),
        sa.Column("memory_used_bytes", sa.BigInteger(), nullable=True),
        sa.Column("power_watts", sa.Double(), nullable=True),
        sa.Column("temperature_celsius", sa.Double(), nullable=True),
        sa.Column("sampled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("health IN ('ok', 'lost', 'faulty', 'retired')", name=op.f("ck_device_health")),
        sa.ForeignKeyConstraint(
            ["node_id"], ["node.id"], name=op.f("fk_device_node_id_node"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device")),
        sa.UniqueConstraint("node_id", "uuid", name=op.f("uq_device_node_id_uuid")),
    )
    op.create_index(op.f("ix_device_uuid"), "device", ["uuid"], unique=False)
    op.create_table(
        "node_usage",
        sa.Column("node_id", sa.Uuid(), nullable=False),
        sa.Column("cpus_millis", sa.Integer(), nullable=False),
        sa.Column("cpus_used_millis", sa.Integer(), server_default="0", nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("memory_used_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint("cpus_used_millis BETWEEN 0 AND cpus_millis", name=op.f("ck_node_usage_cpus")),
        sa.CheckConstraint("memory_used_bytes BETWEEN 0 AND memory_bytes", name=op.f("ck_node_usage_memory")),
        sa.ForeignKeyConstraint(
            ["node_id"], ["node.id"], name=op.f("fk_node_usage_node_id_node"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("node_id", name=op.f("pk_node_usage")),
    )
    op.create_table(
        "workspace",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("node_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"], name=op.f("fk_workspace_node_id_node")),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_workspace_owner_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workspace")),
        sa.UniqueConstraint("owner_id", "name", name=op.f("uq_workspace_owner_id_name")),
    )
    op.create_table(
        "device_usage",
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("share", sa.Integer(), nullable=False),
        sa.Column("share_used", sa.Integer(), server_default="0", nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("memory_used_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint(
            "memory_used_bytes BETWEEN 0 AND memory_bytes", name=op.f("ck_device_usage_memory")
        ),
        sa.CheckConstraint("share_used BETWEEN 0 AND share", name=op.f("ck_device_usage_share")),
        sa.ForeignKeyConstraint(
            ["device_id"], ["device.id"], name=op.f("fk_device_usage_device_id_device"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("device_id", name=op.f("pk_device_usage")),
    )
    op.create_table(
        "lease",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("arrival", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("project", sa.Text(), server_default="default", nullable=False),
        sa.Column("state", sa.Text(), server_default="queued", nullable=False),
        sa.Column("goal", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), server_default="", nullable=False),
        sa.Column("image", sa.Text(), nullable=False),
        sa.Column("gpu_count", sa.Integer(), nullable=False),
        sa.Column("gpu_model", sa.Text(), nullable=True),
        sa.Column("cpus_millis", sa.Integer(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("shm_bytes", sa.BigInteger(), nullable=True),
        sa.Column("command", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column(
            "env", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("port", sa.Integer(), nullable=True),
        sa.Column("workspace_id", sa.Uuid(), nullable=True),
        sa.Column("ttl_seconds", sa.Integer(), nullable=True),
        sa.Column("until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("idle_timeout_seconds", sa.Integer(), nullable=True),
        sa.Column("priority", sa.Integer(), server_default="0", nullable=False),
        sa.Column("wait", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("queued_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("progress", sa.Text(), server_default="", nullable=False),
        sa.Column(
            "blockers",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
        ),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("retry_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("claim_owner", sa.Text(), nullable=True),
        sa.Column("claim_token", sa.Uuid(), nullable=True),
        sa.Column("claim_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("oom_killed", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("last_log", sa.Text(), server_default="", nullable=False),
        sa.Column("told_ends_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("idle_verdict", sa.Text(), nullable=True),
        sa.Column("idle_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("idle_since", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'stopping') = (goal IS NOT NULL)", name=op.f("ck_lease_goal_while_stopping")
        ),
        sa.CheckConstraint("goal IS NULL OR goal IN ('ended', 'suspended')", name=op.f("ck_lease_goal")),
        sa.CheckConstraint(
            "idle_verdict IS NULL OR idle_verdict IN ('active', 'idle', 'unknown')",
            name=op.f("ck_lease_idle_verdict"),
        ),
        sa.CheckConstraint(
            "reason IS NULL OR reason IN ('completed', 'released', 'cancelled', 'expired', 'idle', 'preempted', "
            "'drained', 'revoked', 'failed', 'lost')",
            name=op.f("ck_lease_reason"),
        ),
        sa.CheckConstraint(
            "state <> 'ended' OR (reason IS NOT NULL AND ended_at IS NOT NULL)",
            name=op.f("ck_lease_ended_has_reason"),
        ),
        sa.CheckConstraint(
            "state <> 'running' OR ends_at IS NOT NULL", name=op.f("ck_lease_running_has_deadline")
        ),
        sa.CheckConstraint(
            "state IN ('queued', 'placed', 'starting', 'running', 'stopping', 'suspended', 'ended')",
            name=op.f("ck_lease_state"),
        ),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_lease_owner_id_users")),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspace.id"], name=op.f("fk_lease_workspace_id_workspace")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lease")),
        sa.UniqueConstraint("arrival", name=op.f("uq_lease_arrival")),
    )
    op.create_index(
        "ix_lease_deadline", "lease", ["ends_at"], unique=False, postgresql_where=sa.text("state <> 'ended'")
    )
    op.create_index("ix_lease_owner_id", "lease", ["owner_id", "created_at"], unique=False)
    op.create_index(
        "ix_lease_queue",
        "lease",
        ["priority", "arrival"],
        unique=False,
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index(
        "ix_lease_work",
        "lease",
        ["state"],
        unique=False,
        postgresql_where=sa.text("state IN ('placed', 'starting', 'stopping')"),
    )
    op.create_index(
        "uq_lease_live_workspace",
        "lease",
        ["workspace_id"],
        unique=True,
        postgresql_where=sa.text("state <> 'ended'"),
    )
    op.create_index(
        "uq_lease_live_name", "lease", ["name"], unique=True, postgresql_where=sa.text("state <> 'ended'")
    )


def downgrade() -> None:
    tables = (
        "lease", "workspace", "device_usage", "device", "node_usage", "users", "registry_credential", "part", "node",
        "installation",
    )  # fmt: skip
    for table in tables:
        op.drop_table(table)
