"""Faults on purpose: what to cut and where, set on the nodes under a lease, and shown to hit."""
