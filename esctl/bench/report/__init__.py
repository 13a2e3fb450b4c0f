"""Measurements as a self-contained HTML page with its plots inside."""
