"""Decides and acts: places leases, starts and stops their containers, and keeps rows and engines in step."""
