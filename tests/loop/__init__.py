"""The driver, its queue and clocks, and who waits for it."""
