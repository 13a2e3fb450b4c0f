"""The Raft core, tested without a clock, a disk or a network of its own."""
