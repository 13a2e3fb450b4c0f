"""What a cluster is on this machine: its description, its addresses, its logs, and who runs its nodes."""
