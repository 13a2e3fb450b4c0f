"""The node of EventStreamCore: a replicated, exactly-once event log on trio."""

__version__ = "0.1.0"
