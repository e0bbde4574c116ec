"""workspaces of projects, their sizes and quotas, and readers beside the one writer"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "workspaces"
down_revision = "reclaiming"
branch_labels = None
depends_on = None


def _one_lease(live: str) -> None:
    """One lease at a time has a workspace, of those for which `live` holds."""
    op.drop_index("uq_lease_live_workspace", table_name="lease")
    op.create_index(
        "uq_lease_live_workspace", "lease", ["workspace_id"], unique=True, postgresql_where=sa.text(live)
    )


def upgrade() -> None:
    op.add_column("workspace", sa.Column("project_id", sa.Uuid(), nullable=True))
    op.add_column("workspace", sa.Column("kind", sa.Text(), server_default="volume", nullable=False))
    op.add_column("workspace", sa.Column("quota_bytes", sa.BigInteger(), nullable=True))
    op.add_column("workspace", sa.Column("size_bytes", sa.BigInteger(), nullable=True))
    op.add_column("workspace", sa.Column("measured_at", sa.DateTime(timezone=True), nullable=True))
    for moment in ("warned_at", "deleted_at", "removed_at"):
        op.add_column("workspace", sa.Column(moment, sa.DateTime(timezone=True), nullable=True))
    op.drop_constraint(op.f("uq_workspace_owner_id_name"), "workspace", type_="unique")
    op.create_index(
        "uq_workspace_project",
        "workspace",
        ["project_id", "name"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "uq_workspace_user",
        "workspace",
        ["owner_id", "name"],
        unique=True,
        postgresql_where=sa.text("project_id IS NULL AND deleted_at IS NULL"),
    )
    op.create_foreign_key(
        op.f("fk_workspace_project_id_project"), "workspace", "project", ["project_id"], ["id"]
    )
    op.add_column(
        "lease",
        sa.Column("workspace_read_only", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.create_check_constraint(op.f("ck_workspace_kind"), "workspace", "kind IN ('volume', 'quota')")
    op.create_check_constraint(op.f("ck_workspace_quota_bytes"), "workspace", "quota_bytes > 0")
    op.create_table(
        "workspace_export",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspace.id"], name=op.f("fk_workspace_export_workspace_id_workspace")
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_workspace_export_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workspace_export")),
    )
    op.create_index(op.f("ix_workspace_export_workspace_id"), "workspace_export", ["workspace_id"])
    _one_lease("state NOT IN ('ended', 'suspended') AND NOT workspace_read_only")


def downgrade() -> None:
    op.drop_table("workspace_export")
    _one_lease("state <> 'ended'")
    op.drop_column("lease", "workspace_read_only")
    op.drop_constraint(op.f("fk_workspace_project_id_project"), "workspace", type_="foreignkey")
    op.drop_index("uq_workspace_user", table_name="workspace")
    op.drop_index("uq_workspace_project", table_name="workspace")
    op.create_unique_constraint(op.f("uq_workspace_owner_id_name"), "workspace", ["owner_id", "name"])
    op.drop_column("workspace", "project_id")
    op.drop_column("workspace", "kind")
    op.drop_column("workspace", "quota_bytes")
    op.drop_column("workspace", "size_bytes")
    op.drop_column("workspace", "measured_at")
    for moment in ("warned_at", "deleted_at", "removed_at"):
        op.drop_column("workspace", moment)
