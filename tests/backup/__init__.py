"""Backups: the file, what flips and cuts do to it, and the data directories on both ends."""
