"""What happened: the logs of all nodes as one story on one axis, and its drawings. Pure."""
