"""which browser's session each of its endpoints was opened from, so that they end together"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "browser_sessions"
down_revision = "missing"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # of those that there are nobody knows: whoever is signed in opens them again by a click
    op.execute("DELETE FROM token WHERE kind = 'endpoint' OR (kind = 'signin' AND lease_id IS NOT NULL)")
    op.add_column("token", sa.Column("opened_by", sa.Uuid(), nullable=True))
    op.create_foreign_key(
        op.f("fk_token_opened_by_token"), "token", "token", ["opened_by"], ["id"], ondelete="CASCADE"
    )
    op.create_index(op.f("ix_token_opened_by"), "token", ["opened_by"])
    op.create_check_constraint(
        op.f("ck_token_opened"), "token", "kind <> 'endpoint' OR opened_by IS NOT NULL"
    )


def downgrade() -> None:
    op.drop_constraint(op.f("ck_token_opened"), "token", type_="check")
    op.drop_index(op.f("ix_token_opened_by"), "token")
    op.drop_constraint(op.f("fk_token_opened_by_token"), "token", type_="foreignkey")
    op.drop_column("token", "opened_by")
