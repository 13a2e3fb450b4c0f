"""What is seen of a cluster over time: diagnosis, `top`, monitors, the timeline, the support archive."""
