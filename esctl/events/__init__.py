"""Events from files and pipes into the log."""
