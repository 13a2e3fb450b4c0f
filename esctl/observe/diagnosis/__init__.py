"""What is wrong with a cluster, what shows it, and what to type next: `esctl why`."""
