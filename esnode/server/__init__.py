"""The clients' side of a node: sessions, reads, status, faults on purpose."""
