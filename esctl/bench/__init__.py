"""Generates events, sends them at given times, and measures their latencies."""
