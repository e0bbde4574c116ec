"""What the server's machine must have: packages, Docker Engine, firewall, PostgreSQL."""

from __future__ import annotations
