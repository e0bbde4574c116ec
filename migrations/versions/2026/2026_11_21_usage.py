"""when containers ran, how devices were, hours of use, and prices

`run_span` is kept by a trigger, so that whoever starts, restarts or stops a run says when it ran: a restart of the same
run overwrites `run.started_at`. Nothing ends in the future, whatever an engine's clock says.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "usage"
down_revision = "warm"
branch_labels = None
depends_on = None

CONDITIONS = (
    "free", "cleaning", "reserved", "warm", "foreign", "cordoned", "quarantined", "broken", "unknown", "absent",
)  # fmt: skip
HOUR_NS = 3600 * 10**9

FUNCTION = """
CREATE FUNCTION run_span_apply() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.started_at IS NOT NULL AND (TG_OP = 'INSERT' OR NEW.started_at IS DISTINCT FROM OLD.started_at) THEN
        UPDATE run_span SET until = greatest(since, NEW.started_at) WHERE run_id = NEW.id AND until IS NULL;
        INSERT INTO run_span (run_id, since) VALUES (NEW.id, NEW.started_at);
    END IF;
    IF NEW.stopped_at IS NOT NULL OR NEW.released_at IS NOT NULL THEN
        UPDATE run_span SET until = greatest(since, least(coalesce(NEW.stopped_at, NEW.released_at), now()))
        WHERE run_id = NEW.id AND until IS NULL;
    END IF;
    RETURN NULL;
END $$
"""
TRIGGER = """
CREATE TRIGGER run_spanned AFTER INSERT OR UPDATE OF started_at, stopped_at, released_at ON run
FOR EACH ROW EXECUTE FUNCTION run_span_apply()
"""
BEFORE = """
INSERT INTO run_span (run_id, since, until)
SELECT id, started_at, CASE WHEN released_at IS NULL AND stopped_at IS NULL THEN NULL
    ELSE greatest(started_at, coalesce(stopped_at, released_at)) END
FROM run WHERE started_at IS NOT NULL
"""


def _spans(table: str, of: str, *columns: sa.Column[str]) -> None:
    op.create_table(
        table,
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(f"{of}_id", sa.Uuid(), nullable=False),
        *columns,
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("until >= since", name=op.f(f"ck_{table}_range")),
        sa.ForeignKeyConstraint(
            [f"{of}_id"], [f"{of}.id"], name=op.f(f"fk_{table}_{of}_id_{of}"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
    )
    op.create_index(f"ix_{table}_until", table, ["until"], unique=False)


def upgrade() -> None:
    op.create_table(
        "counting",
        sa.Column("node_id", sa.Uuid(), nullable=False),
        sa.Column("compared_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("looked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sealed_until", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["node_id"], ["node.id"], name=op.f("fk_counting_node_id_node"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("node_id", name=op.f("pk_counting")),
    )
    _spans("run_span", "run")
    op.create_index("ix_run_span_run_id", "run_span", ["run_id"], unique=False)
    op.execute(FUNCTION)
    op.execute(TRIGGER)
    op.execute(BEFORE)
    _spans("device_span", "device", sa.Column("condition", sa.Text(), nullable=False))
    listed = ", ".join(f"'{one}'" for one in CONDITIONS)
    op.create_check_constraint(op.f("ck_device_span_condition"), "device_span", f"condition IN ({listed})")
    op.create_index("ix_device_span_device_id", "device_span", ["device_id", "since"], unique=False)
    op.create_table(
        "run_use",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("measured", sa.Double(), nullable=False),
        sa.Column("used", sa.Double(), nullable=False),
        sa.Column("memory_byte_seconds", sa.Double(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["run.id"], name=op.f("fk_run_use_run_id_run"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "hour", "model", name=op.f("pk_run_use")),
    )
    _hours()
    op.create_table(
        "price",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("per_hour", sa.Double(), nullable=False),
        sa.CheckConstraint("per_hour >= 0", name=op.f("ck_price_per_hour")),
        sa.PrimaryKeyConstraint("model", name=op.f("pk_price")),
    )


def _hours() -> None:
    op.create_table(
        "usage_hour",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("lease_id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("ran_ns", sa.BigInteger(), nullable=False),
        sa.Column("allocated_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cpu_allocated_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("memory_allocated_byte_seconds", sa.Double(), server_default="0", nullable=False),
        sa.Column("measured_seconds", sa.Double(), server_default="0", nullable=False),
        sa.Column("used_seconds", sa.Double(), nullable=True),
        sa.Column("memory_used_byte_seconds", sa.Double(), nullable=True),
        sa.CheckConstraint(
            "allocated_ns >= 0 AND cpu_allocated_ns >= 0", name=op.f("ck_usage_hour_allocated")
        ),
        sa.CheckConstraint(f"ran_ns BETWEEN 0 AND {HOUR_NS}", name=op.f("ck_usage_hour_ran")),
        sa.CheckConstraint(
            "(used_seconds IS NULL) = (measured_seconds = 0)", name=op.f("ck_usage_hour_measured")
        ),
        *(
            sa.ForeignKeyConstraint(
                [column], [f"{of}.id"], name=op.f(f"fk_usage_hour_{column}_{of}"), ondelete=gone
            )
            for column, of, gone in (
                ("run_id", "run", "CASCADE"), ("lease_id", "lease", "CASCADE"), ("owner_id", "users", None),
                ("project_id", "project", None),
            )
        ),
        sa.PrimaryKeyConstraint("run_id", "hour", "model", name=op.f("pk_usage_hour")),
    )  # fmt: skip
    for columns in (["hour"], ["owner_id", "hour"], ["project_id", "hour"], ["lease_id"]):
        op.create_index(f"ix_usage_hour_{columns[0]}", "usage_hour", columns, unique=False)
    classes = ("leased", "held", "free", "foreign_use", "out", "unknown")
    op.create_table(
        "device_hour",
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("capacity", *classes)),
        sa.CheckConstraint(
            " AND ".join(f"{name} >= 0" for name in classes), name=op.f("ck_device_hour_classes")
        ),
        sa.CheckConstraint(f"{' + '.join(classes)} = capacity", name=op.f("ck_device_hour_sum")),
        sa.CheckConstraint(f"capacity BETWEEN 0 AND {HOUR_NS}", name=op.f("ck_device_hour_capacity")),
        sa.ForeignKeyConstraint(
            ["device_id"], ["device.id"], name=op.f("fk_device_hour_device_id_device"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("device_id", "hour", name=op.f("pk_device_hour")),
    )
    op.create_index("ix_device_hour_hour", "device_hour", ["hour"], unique=False)
    op.create_table(
        "device_total",
        sa.Column("device_id", sa.Uuid(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in classes),
        sa.ForeignKeyConstraint(
            ["device_id"], ["device.id"], name=op.f("fk_device_total_device_id_device"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("device_id", name=op.f("pk_device_total")),
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER run_spanned ON run")
    op.execute("DROP FUNCTION run_span_apply()")
    for table in (
        "price", "device_total", "device_hour", "usage_hour", "run_use", "device_span", "run_span", "counting",
    ):  # fmt: skip
        op.drop_table(table)
