"""The toolkit of EventStreamCore: one terminal from which an operator starts, watches and repairs."""
