"""The driver and what it moves: one queue in, one view of the state out, requests that wait."""
