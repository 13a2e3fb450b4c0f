"""Changes the ring of a running cluster: what is to be done next, and who does it."""
