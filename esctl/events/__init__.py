"""Events from files and pipes into the log, and out of it into files."""
