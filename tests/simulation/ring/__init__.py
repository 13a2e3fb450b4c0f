"""Tier R: several groups of tier A, and a ring that changes."""
