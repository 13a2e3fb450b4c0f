"""Every storage engine against one contract, and each against its own ways to fail."""
