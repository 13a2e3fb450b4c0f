"""Where the nodes of a cluster run."""
