"""Measures what clients see when a leader fails: strikes it repeatedly, under load."""
