"""Exactly once, tested without a log, a disk or a clock."""
