"""first schema"""

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
    op.create_table(
        "event",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("lease_id", sa.Uuid(), nullable=True),
        sa.Column("node_id", sa.Uuid(), nullable=True),
        sa.Column("device_id", sa.Uuid(), nullable=True),
        sa.Column("from_state", sa.Text(), nullable=True),
        sa.Column("to_state", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column(
            "data", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["device_id"], ["device.id"], name=op.f("fk_event_device_id_device"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["lease_id"], ["lease.id"], name=op.f("fk_event_lease_id_lease")),
        sa.ForeignKeyConstraint(
            ["node_id"], ["node.id"], name=op.f("fk_event_node_id_node"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
    )
    op.create_index("ix_event_at", "event", ["at"], unique=False)
    op.create_index("ix_event_lease_id", "event", ["lease_id", "id"], unique=False)
    op.create_table(
        "idempotency_key",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("lease_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["lease_id"], ["lease.id"], name=op.f("fk_idempotency_key_lease_id_lease")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_idempotency_key_user_id_users")),
        sa.PrimaryKeyConstraint("user_id", "key", name=op.f("pk_idempotency_key")),
    )
    op.create_table(
        "run",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("lease_id", sa.Uuid(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("node_id", sa.Uuid(), nullable=False),
        sa.Column("cpus_millis", sa.Integer(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("container_id", sa.Text(), nullable=True),
        sa.Column("image_id", sa.Text(), nullable=True),
        sa.Column("epoch", sa.Text(), nullable=True),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("placed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("released_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["lease_id"], ["lease.id"], name=op.f("fk_run_lease_id_lease")),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"], name=op.f("fk_run_node_id_node")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run")),
        sa.UniqueConstraint("lease_id", "generation", name=op.f("uq_run_lease_id_generation")),
    )
    op.create_index(
        "ix_run_node_open", "run", ["node_id"], unique=False, postgresql_where=sa.text("released_at IS NULL")
    )
    op.create_index(
        "uq_run_container",
        "run",
        ["container_id"],
        unique=True,
        postgresql_where=sa.text("released_at IS NULL"),
    )
    op.create_index(
        "uq_run_open", "run", ["lease_id"], unique=True, postgresql_where=sa.text("released_at IS NULL")
    )
    op.create_table(
        "signal",
        sa.Column("lease_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("known_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("active_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('gpu', 'cpu', 'network', 'endpoint')", name=op.f("ck_signal_kind")),
        sa.ForeignKeyConstraint(
            ["lease_id"], ["lease.id"], name=op.f("fk_signal_lease_id_lease"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("lease_id", "kind", name=op.f("pk_signal")),
    )
    op.create_table(
        "token",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("lease_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('api', 'session', 'signin', 'endpoint')", name=op.f("ck_token_kind")),
        sa.ForeignKeyConstraint(
            ["lease_id"], ["lease.id"], name=op.f("fk_token_lease_id_lease"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_token_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_token")),
        sa.UniqueConstraint("hash", name=op.f("uq_token_hash")),
    )
    op.create_index(op.f("ix_token_user_id"), "token", ["user_id"], unique=False)
    op.create_table(
        "traffic",
        sa.Column("lease_id", sa.Uuid(), nullable=False),
        sa.Column("requests_total", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("bytes_in_total", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("bytes_out_total", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["lease_id"], ["lease.id"], name=op.f("fk_traffic_lease_id_lease"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("lease_id", name=op.f("pk_traffic")),
    )
    op.create_table(
        "allocation",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("share", sa.Integer(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("released_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("memory_bytes >= 0", name=op.f("ck_allocation_memory")),
        sa.CheckConstraint("share BETWEEN 1 AND 1000", name=op.f("ck_allocation_share")),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name=op.f("fk_allocation_device_id_device")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_allocation_run_id_run")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_allocation")),
    )
    op.create_index(
        "ix_allocation_device_open",
        "allocation",
        ["device_id"],
        unique=False,
        postgresql_where=sa.text("released_at IS NULL"),
    )
    op.create_index(op.f("ix_allocation_run_id"), "allocation", ["run_id"], unique=False)
    op.create_index(
        "uq_allocation_open",
        "allocation",
        ["run_id", "device_id"],
        unique=True,
        postgresql_where=sa.text("released_at IS NULL"),
    )
    op.create_table(
        "run_sample",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cpu_seconds_total", sa.Double(), nullable=False),
        sa.Column("cpu_cores", sa.Double(), nullable=True),
        sa.Column("memory_working_set_bytes", sa.BigInteger(), nullable=False),
        sa.Column("network_rx_bytes_total", sa.BigInteger(), nullable=True),
        sa.Column("network_tx_bytes_total", sa.BigInteger(), nullable=True),
        sa.Column("gpu_utilization_ratio", sa.Double(), nullable=True),
        sa.Column("gpu_memory_used_bytes", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"], ["run.id"], name=op.f("fk_run_sample_run_id_run"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_run_sample")),
    )


def downgrade() -> None:
    op.drop_table("run_sample")
    op.drop_index(
        "uq_allocation_open", table_name="allocation", postgresql_where=sa.text("released_at IS NULL")
    )
    op.drop_index(op.f("ix_allocation_run_id"), table_name="allocation")
    op.drop_index(
        "ix_allocation_device_open", table_name="allocation", postgresql_where=sa.text("released_at IS NULL")
    )
    op.drop_table("allocation")
    op.drop_table("traffic")
    op.drop_index(op.f("ix_token_user_id"), table_name="token")
    op.drop_table("token")
    op.drop_table("signal")
    op.drop_index("uq_run_open", table_name="run", postgresql_where=sa.text("released_at IS NULL"))
    op.drop_index("uq_run_container", table_name="run", postgresql_where=sa.text("released_at IS NULL"))
    op.drop_index("ix_run_node_open", table_name="run", postgresql_where=sa.text("released_at IS NULL"))
    op.drop_table("run")
    op.drop_table("idempotency_key")
    op.drop_index("ix_event_lease_id", table_name="event")
    op.drop_index("ix_event_at", table_name="event")
    op.drop_table("event")
    op.drop_index("uq_lease_live_workspace", table_name="lease", postgresql_where=sa.text("state <> 'ended'"))
    op.drop_index("uq_lease_live_name", table_name="lease", postgresql_where=sa.text("state <> 'ended'"))
    op.drop_index(
        "ix_lease_work",
        table_name="lease",
        postgresql_where=sa.text("state IN ('placed', 'starting', 'stopping')"),
    )
    op.drop_index("ix_lease_queue", table_name="lease", postgresql_where=sa.text("state = 'queued'"))
    op.drop_index("ix_lease_owner_id", table_name="lease")
    op.drop_index("ix_lease_deadline", table_name="lease", postgresql_where=sa.text("state <> 'ended'"))
    op.drop_table("lease")
    op.drop_table("device_usage")
    op.drop_table("workspace")
    op.drop_table("node_usage")
    op.drop_index(op.f("ix_device_uuid"), table_name="device")
    op.drop_table("device")
    op.drop_table("users")
    op.drop_table("registry_credential")
    op.drop_table("part")
    op.drop_table("node")
    op.drop_table("installation")
