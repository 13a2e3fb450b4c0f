"""What is seen of a cluster and of the machine: diagnosis, `top`, monitors, timelines, support archives."""
