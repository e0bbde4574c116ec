"""sharing with the project, options of endpoints, tokens for one lease, which grants each gateway acts on"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "endpoints"
down_revision = "usage"
branch_labels = None
depends_on = None

KINDS = ("api", "session", "signin", "endpoint")
COUNTS = ("cache_hits_total", "cache_misses_total")
GRANTED = {
    "member": "INSERT OR UPDATE OR DELETE",
    "lease": "UPDATE OF shared, endpoint",
}
"""Changes that gateways hear of, each announced once per statement."""


def upgrade() -> None:
    op.add_column("lease", sa.Column("shared", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column(
        "lease",
        sa.Column(
            "endpoint",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
    )
    op.add_column("part", sa.Column("grants", sa.Text(), nullable=True))
    for count in COUNTS:
        op.add_column("traffic", sa.Column(count, sa.BigInteger(), server_default="0", nullable=False))
    op.create_table(
        "call_time",
        sa.Column("upto", sa.Float(), nullable=False),
        sa.Column("calls_total", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("seconds_total", sa.Float(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("upto", name=op.f("pk_call_time")),
    )
    _kinds((*KINDS, "lease"))
    op.create_check_constraint(op.f("ck_token_scoped"), "token", "kind <> 'lease' OR lease_id IS NOT NULL")
    op.create_index("ix_token_lease_id", "token", ["lease_id"])
    op.create_index("ix_lease_ended", "lease", ["ended_at"], postgresql_where=sa.text("state = 'ended'"))
    for table, changes in GRANTED.items():
        op.execute(
            f"CREATE TRIGGER {table}_granted AFTER {changes} ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION grants_announce()"
        )


def downgrade() -> None:
    for table in GRANTED:
        op.execute(f"DROP TRIGGER {table}_granted ON {table}")
    op.drop_index("ix_lease_ended", "lease")
    op.drop_index("ix_token_lease_id", "token")
    op.drop_constraint(op.f("ck_token_scoped"), "token", type_="check")
    op.execute("DELETE FROM token WHERE kind = 'lease'")
    _kinds(KINDS)
    op.drop_table("call_time")
    for count in COUNTS:
        op.drop_column("traffic", count)
    op.drop_column("part", "grants")
    op.drop_column("lease", "endpoint")
    op.drop_column("lease", "shared")


def _kinds(kinds: tuple[str, ...]) -> None:
    op.drop_constraint(op.f("ck_token_kind"), "token", type_="check")
    listed = ", ".join(f"'{kind}'" for kind in kinds)
    op.create_check_constraint(op.f("ck_token_kind"), "token", f"kind IN ({listed})")
