"""The bare floor: what Python, trio, the sockets and the disk allow when a log does nothing else.

Three processes that carry the bytes of a cluster, put together what comes together and fsync it as `esnode`
does, with no Raft, no deduplication and no checks. `python -m bench.floor` measures it, alone or beside
`esnode`.
"""
