"""Where the log lives: one Protocol, three engines, one contract suite."""
