"""What a user would pick instead, measured by the same load on the same machine: `python -m bench.peers`.

One driver a system behind the Protocol of `peer.py`, esnode one of them. The load, its events and its
latencies are those of `esctl bench`. Nothing here is imported by the product, and no server of another
project is among its dependencies: `bench/peers/install.sh` fetches them into `build/peers`.
"""
