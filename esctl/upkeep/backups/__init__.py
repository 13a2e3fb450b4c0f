"""Care of the data: backups and what is made of them, lost quorums, exports, and what may be cut."""
