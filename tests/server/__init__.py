"""What clients see of one node, on memory streams and loopback."""
