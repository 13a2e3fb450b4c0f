"""Exactly once: what is a duplicate. Pure: no trio, no clock, no randomness, no storage."""
