"""Sending warnings to mail, webhooks and chats: each from a process of its own, which can reach nothing else."""
