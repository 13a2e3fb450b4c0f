"""Maintenance of a node's log: recovery, checkpoints, retention, scrub, repair, operators' requests."""
