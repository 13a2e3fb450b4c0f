"""Sets faults on clusters, checks their effect, and runs storms of them."""
