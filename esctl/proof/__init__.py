"""Was anything lost, doubled, changed or reordered? A checker that can fail, and how it reads the logs."""
