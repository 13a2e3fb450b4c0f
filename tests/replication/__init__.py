"""What nodes say to each other, and what each remembers of the others."""
