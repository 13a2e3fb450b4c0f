"""What every command shares: options, settings, completion, guards, the audit log, signals."""
