"""Questions to a cluster: who lives, who leads, where the log ends, what is in it."""
