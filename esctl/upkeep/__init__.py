"""Care of a running cluster, one node at a time, so that nobody who sends or reads events notices."""
