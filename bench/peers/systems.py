"""The systems that can be measured, by the name that `--system` takes."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from bench.peers.esnode import Esnode
from bench.peers.etcd import FAST_MS, Etcd
from bench.peers.nats import Nats
from bench.peers.peer import Peer
from bench.peers.rabbitmq import RabbitMq
from bench.peers.redis import Redis
from esnode.errors import InvalidRequest

SYSTEMS: Final[dict[str, Callable[[], Peer]]] = {
    "nats": Nats,
    "nats-batch": partial(Nats, batches=True),
    "nats-always": partial(Nats, sync_always=True),
    "etcd": Etcd,
    "etcd-txn": partial(Etcd, transactions=True),
    "etcd-fast": partial(Etcd, timers_ms=FAST_MS),
    "redis": Redis,
    "rabbitmq": RabbitMq,
    "esnode": Esnode,
}


def chosen(names: str) -> Sequence[tuple[str, Peer]]:
    """Drivers for a list such as `nats,esnode`; raises `InvalidRequest` for a name that is none."""
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in SYSTEMS]
    if unknown or not wanted:
        raise InvalidRequest(
            f"no such system: {', '.join(unknown) or 'none was named'}",
            next_step=f"choose from {','.join(SYSTEMS)}",
        )
    return [(name, SYSTEMS[name]()) for name in dict.fromkeys(wanted)]
