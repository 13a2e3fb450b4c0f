"""What a node does for its own log: recovery, repair, operators' requests."""
