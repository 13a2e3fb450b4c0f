"""Backups: one file with all that a log holds and means, written, checked, and made a node's data again."""
