"""What an operator hands to somebody who is to help: everything that explains, nothing that is secret."""
