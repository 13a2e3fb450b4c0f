"""Playbooks: documents that a person reads from top to bottom and a machine runs."""
