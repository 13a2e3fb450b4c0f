"""Faults that are set on clusters: what they strike, what shows it, storms of them, and what came of those."""
