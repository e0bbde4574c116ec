"""Which nodes are known to be away: to ask an engine that takes calls and answers none costs minutes each time."""

from __future__ import annotations

# One that answers is asked even if it is not to be relied upon, as while containers are missing on it. It is probed
# every few seconds, and less often while others do not answer: what waits for it is tried again until it was just then.
AWAY = "(node.health <> 'ready' AND node.engine_seen_at < now() - interval '10 seconds') IS TRUE"
"""In SQL, of `node`: the scheduler's last probes of it failed."""
SAID = "its node does not answer"
