"""Was anything lost, doubled, changed or reordered? Checkers that can fail, and how the logs are read.

`history.py` lays the nodes' logs side by side: `esctl verify` and the torture runs. `operations.py` holds
what clients were told against one log: the torture runs and the simulation. Both find with the words of
`verdict.py`; a history's `keys` are the log that operations are checked against.
"""
