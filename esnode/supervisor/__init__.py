"""A node with several partitions: one process for each, behind one port for clients and one for peers."""
