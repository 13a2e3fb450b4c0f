"""The supervisor: the two ports of a node with several partitions, and a process for each partition.

Decides who knows whom, in which order they start, and how all of them stop. Has no log and no data: it holds
the lock of the directory that theirs are in. When it ends, they notice the end of the sockets to it, and
stop. Called by `__main__`.
"""

import logging
import signal
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext

import trio

from esnode.config import Config
from esnode.messages import Side
from esnode.node import listen
from esnode.storage.partitioned import hold_partitions
from esnode.supervisor.acceptor import Acceptor
from esnode.supervisor.partitionprocess import PartitionProcess

log = logging.getLogger(__name__)


async def supervise(config: Config, command: Sequence[str], once: Sequence[str] = ()) -> bool:
    """Run the node until SIGTERM or SIGINT; whether each process then stopped in order.

    `command` starts the process of a partition, with its number added; `once` the first time only. Raises
    `AddressTaken`, and what `hold_partitions` does.
    """
    with ExitStack() as opened:
        clients = await listen(config.me.client, opened)
        peers = await listen(config.me.peer, opened)
        on_disk = config.storage != "memory"
        opened.enter_context(
            hold_partitions(config.data_dir, config.partitions) if on_disk else nullcontext()
        )
        processes = [PartitionProcess(number, command, once) for number in range(config.partitions)]
        async with trio.open_nursery() as nursery:
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                for process in processes:
                    nursery.start_soon(process.run, name=f"partition {process.partition}")
                nursery.start_soon(Acceptor(Side.CLIENT, processes).serve, clients, name="clients")
                nursery.start_soon(Acceptor(Side.PEER, processes).serve, peers, name="peers")
                log.info("supervisor_started", extra={"partitions": config.partitions})
                async for number in signals:
                    log.info("node_stopping", extra={"signal": signal.Signals(number).name})
                    break
                nursery.cancel_scope.cancel()
    return not any(process.unclean for process in processes)
