"""What people and programs see: answers, and how they are printed, drawn and escaped."""
