"""Real nodes, real kills, and a ledger that forgets nothing. Run a module of this package as a script."""
