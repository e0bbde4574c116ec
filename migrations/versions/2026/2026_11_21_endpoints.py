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
    _kinds((*KINDS, "lease"))


def downgrade() -> None:
    op.execute("DELETE FROM token WHERE kind = 'lease'")
    op.create_table(
        "call_time",
        sa.Column("upto", sa.Float(), nullable=False),
        sa.Column("calls_total", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("seconds_total", sa.Float(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("upto", name=op.f("pk_call_time")),
    )
    _kinds(KINDS)
    op.drop_column("part", "grants")
    op.drop_column("lease", "endpoint")
    op.drop_column("lease", "shared")


def _kinds(kinds: tuple[str, ...]) -> None:
    op.drop_constraint(op.f("ck_token_kind"), "token", type_="check")
    listed = ", ".join(f"'{kind}'" for kind in kinds)
    op.create_check_constraint(op.f("ck_token_kind"), "token", f"kind IN ({listed})")
    op.drop_table("call_time")
