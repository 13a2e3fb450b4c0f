"""Questions to a cluster: who answers, who leads, where the log ends, what is in it."""
