"""Single figures of a cluster for monitors: thresholds, plugin lines, Prometheus text."""
