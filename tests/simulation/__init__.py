"""Clusters that live in one process, under a clock that jumps: every run follows from one number."""
