"""What an operator sends to support: everything that explains, nothing that is secret."""
