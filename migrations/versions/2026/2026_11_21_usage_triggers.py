"""keep what is used of nodes and devices, and announce events

Usage rows are kept by statement triggers and refused by CHECKs, so that no code can over-allocate. A trigger first
locks the usage rows it will change, in id order (two statements that meet never deadlock), and only then sums: under
READ COMMITTED that sum sees everything committed by whoever held the lock before.
"""

from __future__ import annotations

from alembic import op

revision = "usage_triggers"
down_revision = "runs_and_records"
branch_labels = None
depends_on = None

FUNCTION = """
CREATE FUNCTION {usage}_apply() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed uuid[];
BEGIN
    IF TG_OP = 'INSERT' THEN
        SELECT array_agg(DISTINCT {key}) INTO changed FROM new_rows;
    ELSIF TG_OP = 'DELETE' THEN
        SELECT array_agg(DISTINCT {key}) INTO changed FROM old_rows;
    ELSE
        SELECT array_agg(DISTINCT {key}) INTO changed
        FROM (SELECT * FROM old_rows UNION ALL SELECT * FROM new_rows) r
        WHERE id IN (
            SELECT id FROM (SELECT {counted} FROM old_rows EXCEPT SELECT {counted} FROM new_rows) d
        );
    END IF;
    PERFORM FROM {usage} WHERE {key} = ANY (changed) ORDER BY {key} FOR NO KEY UPDATE;
    UPDATE {usage} SET {assignments}
    FROM (
        SELECT k AS {key}, {sums}
        FROM unnest(changed) k LEFT JOIN {source} r ON r.{key} = k AND r.released_at IS NULL
        GROUP BY k
    ) s WHERE {usage}.{key} = s.{key};
    RETURN NULL;
END $$
"""

TRIGGER = """
CREATE TRIGGER {source}_{event} AFTER {operation} ON {source} REFERENCING {tables}
FOR EACH STATEMENT EXECUTE FUNCTION {usage}_apply()
"""

EVENTS = (
    ("inserted", "INSERT", "NEW TABLE AS new_rows"),
    ("updated", "UPDATE", "OLD TABLE AS old_rows NEW TABLE AS new_rows"),
    ("deleted", "DELETE", "OLD TABLE AS old_rows"),
)

KEPT = (
    {
        "usage": "node_usage",
        "source": "run",
        "key": "node_id",
        "counted": "id, node_id, cpus_millis, memory_bytes, released_at",
        "sums": "coalesce(sum(r.cpus_millis), 0)::int AS cpus, coalesce(sum(r.memory_bytes), 0)::bigint AS memory",
        "assignments": "cpus_used_millis = s.cpus, memory_used_bytes = s.memory",
    },
    {
        "usage": "device_usage",
        "source": "allocation",
        "key": "device_id",
        "counted": "id, device_id, share, memory_bytes, released_at",
        "sums": "coalesce(sum(r.share), 0)::int AS share, coalesce(sum(r.memory_bytes), 0)::bigint AS memory",
        "assignments": "share_used = s.share, memory_used_bytes = s.memory",
    },
)

# Every inserted event is announced: whoever waits for leases to change is woken by the row itself.
ANNOUNCE = """
CREATE FUNCTION event_announce() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('leasing_event', coalesce(NEW.lease_id::text, '-') || ':' || NEW.kind);
    RETURN NULL;
END $$
"""

# The gateway's grants follow from these tables; a change to any of them is announced once per statement.
GRANTS = """
CREATE FUNCTION grants_announce() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('leasing_grants', TG_TABLE_NAME);
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    for names in KEPT:
        op.execute(FUNCTION.format(**names))
        for event, operation, tables in EVENTS:
            op.execute(TRIGGER.format(event=event, operation=operation, tables=tables, **names))
    op.execute(ANNOUNCE)
    op.execute(
        "CREATE TRIGGER event_inserted AFTER INSERT ON event FOR EACH ROW EXECUTE FUNCTION event_announce()"
    )
    op.execute(GRANTS)
    for table, columns in (("token", "revoked_at, expires_at"), ("users", "disabled_at, role")):
        op.execute(
            f"CREATE TRIGGER {table}_granted AFTER INSERT OR DELETE OR UPDATE OF {columns} ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION grants_announce()"
        )


def downgrade() -> None:
    for table in ("token", "users"):
        op.execute(f"DROP TRIGGER {table}_granted ON {table}")
    op.execute("DROP FUNCTION grants_announce()")
    op.execute("DROP TRIGGER event_inserted ON event")
    op.execute("DROP FUNCTION event_announce()")
    for names in KEPT:
        for event, _, _ in EVENTS:
            op.execute(f"DROP TRIGGER {names['source']}_{event} ON {names['source']}")
        op.execute(f"DROP FUNCTION {names['usage']}_apply()")
