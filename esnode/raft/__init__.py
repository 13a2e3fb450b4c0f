"""The Raft core: sans-IO and pure. It imports no trio, time, random, socket or sqlite3."""
