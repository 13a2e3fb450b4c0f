"""Backups: taken, listed, restored, rehearsed; and what may be cut."""
