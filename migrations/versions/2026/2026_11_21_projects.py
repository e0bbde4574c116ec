"""projects, their members, quotas, and the order of service"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "projects"
down_revision = "expected_start"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "project",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("open", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("weight", sa.Float(), server_default="1", nullable=False),
        sa.Column("top_priority", sa.Integer(), server_default="0", nullable=False),
        sa.Column("used_device_seconds", sa.Float(), server_default="0", nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("weight > 0", name=op.f("ck_project_weight")),
        sa.CheckConstraint("top_priority BETWEEN -1 AND 1", name=op.f("ck_project_top_priority")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_project")),
        sa.UniqueConstraint("name", name=op.f("uq_project_name")),
    )
    op.create_table(
        "member",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.CheckConstraint("role IN ('viewer', 'developer', 'owner')", name=op.f("ck_member_role")),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name=op.f("fk_member_project_id_project"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_member_user_id_users")),
        sa.PrimaryKeyConstraint("project_id", "user_id", name=op.f("pk_member")),
    )
    op.create_index(op.f("ix_member_user_id"), "member", ["user_id"])
    op.create_table(
        "quota",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("project_id", sa.Uuid(), nullable=True),
        sa.Column("max_devices", sa.Float(), nullable=True),
        sa.Column("max_leases", sa.Integer(), nullable=True),
        sa.Column("device_hours", sa.Float(), nullable=True),
        sa.Column("window_hours", sa.Integer(), nullable=True),
        sa.CheckConstraint("num_nonnulls(user_id, project_id) = 1", name=op.f("ck_quota_subject")),
        sa.CheckConstraint("(device_hours IS NULL) = (window_hours IS NULL)", name=op.f("ck_quota_window")),
        sa.CheckConstraint(
            "max_devices >= 0 AND max_leases >= 0 AND device_hours >= 0", name=op.f("ck_quota_positive")
        ),
        sa.CheckConstraint("window_hours > 0", name=op.f("ck_quota_window_hours")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_quota_user_id_users")),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name=op.f("fk_quota_project_id_project"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quota")),
        sa.UniqueConstraint("user_id", name=op.f("uq_quota_user_id")),
        sa.UniqueConstraint("project_id", name=op.f("uq_quota_project_id")),
    )
    # Until now a project was a word that anybody could write: whoever wrote it belongs to it.
    op.execute("INSERT INTO project (name, open) VALUES ('default', true)")
    op.execute("INSERT INTO project (name) SELECT DISTINCT project FROM lease ON CONFLICT DO NOTHING")
    op.execute(
        "INSERT INTO member (project_id, user_id, role) SELECT DISTINCT p.id, l.owner_id, 'developer'"
        " FROM lease l JOIN project p ON p.name = l.project WHERE NOT p.open"
    )
    op.execute(
        "INSERT INTO quota (user_id, max_devices)"
        " SELECT id, max_devices FROM users WHERE max_devices IS NOT NULL"
    )
    op.drop_column("users", "max_devices")

    op.add_column("lease", sa.Column("project_id", sa.Uuid(), nullable=True))
    op.execute("UPDATE lease SET project_id = project.id FROM project WHERE project.name = lease.project")
    op.alter_column("lease", "project_id", nullable=False)
    op.drop_column("lease", "project")
    op.create_foreign_key(op.f("fk_lease_project_id_project"), "lease", "project", ["project_id"], ["id"])
    op.create_index(op.f("ix_lease_project_id"), "lease", ["project_id", "created_at"])
    op.create_check_constraint(op.f("ck_lease_priority"), "lease", "priority BETWEEN -1 AND 1")
    op.add_column(
        "lease", sa.Column("preemptible", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    op.add_column("lease", sa.Column("rank", sa.BigInteger(), nullable=True))
    op.add_column("lease", sa.Column("node_name", sa.Text(), nullable=True))
    op.add_column(
        "lease",
        sa.Column("node_labels", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
    )
    op.add_column("lease", sa.Column("latest_start", sa.DateTime(timezone=True), nullable=True))
    op.drop_index("ix_lease_queue", table_name="lease")
    op.create_index(
        "ix_lease_queue", "lease", ["rank", "arrival"], postgresql_where=sa.text("state = 'queued'")
    )
    op.create_index(op.f("ix_run_released_at"), "run", ["released_at"])
    op.add_column(
        "node", sa.Column("labels", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False)
    )


def downgrade() -> None:
    op.drop_column("node", "labels")
    op.drop_index("ix_run_released_at", table_name="run")
    op.drop_index("ix_lease_queue", table_name="lease")
    op.create_index(
        "ix_lease_queue", "lease", ["priority", "arrival"], postgresql_where=sa.text("state = 'queued'")
    )
    for column in ("latest_start", "node_labels", "node_name", "rank", "preemptible"):
        op.drop_column("lease", column)
    op.drop_constraint(op.f("ck_lease_priority"), "lease")
    op.add_column("lease", sa.Column("project", sa.Text(), server_default="default", nullable=False))
    op.execute("UPDATE lease SET project = project.name FROM project WHERE project.id = lease.project_id")
    op.drop_column("lease", "project_id")
    op.add_column("users", sa.Column("max_devices", sa.Integer(), nullable=True))
    op.execute("UPDATE users SET max_devices = quota.max_devices FROM quota WHERE quota.user_id = users.id")
    op.drop_table("quota")
    op.drop_table("member")
    op.drop_table("project")
