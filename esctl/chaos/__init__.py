"""Faults that are set on clusters: what they strike, what shows it, and storms of them."""
