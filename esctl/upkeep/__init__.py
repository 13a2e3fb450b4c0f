"""Nodes restarted, drained and replaced, lost quorums recovered, what is left of clusters cleared away."""
