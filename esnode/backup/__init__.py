"""Backups: one file with a whole log and its state, written, checked, and restored to a node's data."""
