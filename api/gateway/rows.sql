-- All that grants follow from, of one moment. Each parameter: rows of that table whose last change is older than this
-- transaction are left out; null: none is left out. Counts are always of all.
WITH past AS (
    SELECT age(CAST(:tokens AS text)::xid) AS tokens,
           age(CAST(:users AS text)::xid) AS users,
           age(CAST(:members AS text)::xid) AS members,
           age(CAST(:leases AS text)::xid) AS leases
)
SELECT pg_current_snapshot()::text AS snapshot, pg_postmaster_start_time()::text AS server, now() AS now,
       tokens.*, users.*, members.*, live.*, ended.*
FROM (
    SELECT count(*) FILTER (WHERE valid) AS token_count,
           json_agg(json_build_array(id, encode(hash, 'hex'), user_id, lease_id, expires_at, valid))
               FILTER (WHERE wanted) AS tokens
    FROM (
        SELECT token.*, valid,
               CASE WHEN past.tokens IS NULL THEN valid ELSE age(token.xmin) <= past.tokens END AS wanted
        FROM past, token, LATERAL (
            SELECT revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()) AS valid
        ) AS judged
        WHERE kind IN ('api', 'session', 'endpoint', 'lease')
    ) AS token
) AS tokens, (
    SELECT count(*) AS user_count,
           json_agg(json_build_array(id, name, role, disabled_at IS NULL))
               FILTER (WHERE past.users IS NULL OR age(u.xmin) <= past.users) AS users
    FROM past, users u
) AS users, (
    SELECT count(*) AS member_count,
           json_agg(json_build_array(user_id, project_id, role))
               FILTER (WHERE past.members IS NULL OR age(m.xmin) <= past.members) AS members
    FROM past, member m
) AS members, (
    SELECT count(*) AS live_count, count(r.id) AS run_count,
           json_agg(json_build_array(
               l.id, l.name, l.owner_id, l.project_id, l.shared, l.state, l.message, l.port, r.address, r.generation,
               l.suspend_reason, coalesce(floor(extract(epoch FROM r.started_at))::bigint, 0), l.endpoint
           )) FILTER (
               WHERE past.leases IS NULL OR age(l.xmin) <= past.leases OR age(r.xmin) <= past.leases
           ) AS live
    FROM past, lease l LEFT JOIN run r ON r.lease_id = l.id AND r.released_at IS NULL
    WHERE l.state <> 'ended'
) AS live, (
    SELECT json_agg(json_build_array(
               l.id, l.name, l.owner_id, l.project_id, l.shared, l.state, l.message, l.port, NULL, NULL,
               l.suspend_reason, 0, l.endpoint
           ) ORDER BY l.ended_at) FILTER (WHERE past.leases IS NULL OR age(l.changed_by) <= past.leases) AS ended
    FROM past, (
        SELECT *, xmin AS changed_by FROM lease WHERE state = 'ended' ORDER BY ended_at DESC LIMIT :ended_shown
    ) AS l
) AS ended
