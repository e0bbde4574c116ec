"""Keeping rows and engines in step: one stage a file, each load → act → apply."""
